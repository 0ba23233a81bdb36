"""Methods x noises x ratios x seeds on one data set: settings, plan, results and report."""
