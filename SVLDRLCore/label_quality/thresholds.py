"""Every number that label quality was set to, with its unit and its reason. None of them is a setting.

A deviation is counted in units of what right labels may have: 1 is as far as those lie. Shares are of 1.
"""

from __future__ import annotations

# Features: what a label looks like beside image and prediction.

FARTHEST_MM = 20.0
"""mm. Distances to the predicted border beyond are no worse."""
LEAST_PROBABILITY = 1e-4
"""Probability. Nearer to 0 or 1 none is taken: logarithms stay finite."""
COMMON_EDGE_VOXELS = 1.5
"""Voxels (of 2 mm or more). The edge that labels share is looked for so near their border."""
COMMON_EDGE_SHARE = 0.2
"""Share of the labels that must follow it; more may be wrong than right, if they are not all wrong alike."""
FEWEST_ON_EDGE = 3
"""Labels. Fewer that lie alike do so by chance."""
NEAR_EDGE_FLOORS = 3
"""Units of `reliability.floor_mm`. Labels so near the densest place follow the edge."""
OFF_EDGE_FLOORS = 1.6
"""Units of `reliability.floor_mm`. What labels that follow the edge may lie off it, at least."""
OFF_EDGE_SPREADS = 2.5
"""Spreads (median absolute deviation) of the labels that follow the edge; the same where they scatter more."""
FEWEST_CASES = 6
"""Labels. Fewer share no edge that could tell which of them is off it."""
FEWEST_SHARP = 20
"""Labels. Of fewer, four or less would tell how sharp right ones are; leaving some out costs more than they harm."""
SHARP_LABELS = (0.7, 0.9)
"""Quantiles of the sharpness between which labels are right if only a third of them are."""
SDS_BETWEEN = 0.68
"""The distance of both quantiles in spreads; it is 1.1 SD of right labels if half of all are, 0.76 if all are."""
LEAST_SHARPNESS_SPREAD = 0.1
"""Log sharpness. Its spread, at least."""
USUAL_BLUR = 1.4
"""Spreads below the upper quantile that right labels still have, as far as many labels tell."""
UNSURE_CASES = 10
"""Labels. The fewer, the less is known of their quantiles: of twice as many as these, half more blur is usual."""

# Fragments: labels in several pieces.

FRAGMENT_SHARE = 0.004
"""Share of a label off its largest piece from which on it counts as having fragments."""
NATURAL = 0.8
"""Share of the labels. So many with fragments are the structure's doing; three of four may be wrong."""
USUAL_HALVES = 4.0
"""Lengths of the shortest half (3 SD) by which a usual share may leave its centre; or half of that, if it is more."""
GROSS = 0.05
"""Share off the largest piece that neither a slip of the hand nor a shallow border leaves."""
MOST_IN_PIECES = 2 / 3
"""Share of the labels. Where more are in pieces, it is not known whose doing it is."""
MANY_IN_PIECES = 0.4
"""Share of the labels. Where more are in pieces, the user is asked."""

# Weights: how deviations become the weight of a label.

TOLERANCE = 1.1
"""Deviation up to which a case keeps its full weight."""
FALL = 5.0
"""1 / deviation squared. How fast the weight falls beyond that: 0.29 at half a deviation more."""
LOW_WEIGHT = 0.5
"""Weight. Below it a label is taken for wrong, above it for right."""
BIAS_FLOORS = 2
"""Units of `reliability.floor_mm`. Half the length of the biases' shortest half, at least."""
FEWEST_CLEAR = 3
"""Labels. So many that neither edge nor fragments speak against can have a normal bias of their own."""
FEWEST_TO_CONFIRM = 2
"""Trusted labels. One alone tells nothing of how right labels scatter."""
HARDLY_ANY_DOUBT = 0.9
"""Mean weight from which on a quality doubts so few that there is nothing for trusted cases to confirm."""
CROSS_ENTROPY_FLOOR = 0.15
"""Log cross entropy. Its spread among right labels, at least."""
FALL_FROM_TRUSTED = 0.5
"""Deviations. Width of the normal curve by which weights fall with the distance from trusted labels."""
FALL_OF_FRAGMENTS = 2.0
"""1 / deviation squared. How fast the weight falls with fragments where a network made the labels."""
FEWEST_MARKED, FEWEST_UNMARKED = 5, 3
"""Labels with fragments and without: fewer do not tell whether the former are easier to fit."""
EASIER_TO_FIT = -2.0
"""Welch's t. Below it, labels with fragments are fitted better than the rest: a network made them."""
CLUSTER_STEPS = 4
"""Steps between the centres of well and badly fitted labels; half of one is the width of the change between them."""
LEAST_CLUSTER_STEP = 1e-3
"""Log cross entropy. One of these steps, at least."""
FEWEST_FOR_GROUPS, FEWEST_IN_A_GROUP = 6, 3
"""Labels. Fewer fall into two groups by chance."""
GROUPS_APART = 3.0
"""SD within two groups of labels. So far apart they are two: halves of one normal distribution are 2.7 apart."""

# Missing structures.

SHOWN_SHARE = 0.5
"""Share of its usual volume that shows a structure: nearer to all of it than to nothing."""
LEAST_SURENESS_SPREAD = 0.25
"""Of how sure a network is, at least, in units of what tells both kinds apart: cases not learned from scatter more."""

# Border correction.

ENOUGH_BELIEVED = 20
"""Labels. So many believed ones need no help from moved ones: these cost 0.0 and 0.7 points beside 38 (left atrium)."""
MOVED_WORTH = 0.15
"""Dice. By how much moved labels must be better than what the network draws."""
MOST_TRIALS = 12
"""Labels. Believed ones on which it is tried out how good moved labels are."""
FOLLOWS_EDGE = 0.5
"""Deviation up to which a border follows the edge and stays where it is."""

# Label agents.

EPISODES = 16
"""Episodes an update."""
UPDATES = 100
"""Updates of a policy."""
LEARNING_RATE = 0.4
"""Length of an update's step, at most."""
DECAY = 0.1
"""Share of the policy's weights lost an update: without new evidence it falls back to even odds."""
SUREST = 4.0
"""Logit. The largest of an agent, so that all go on exploring."""
POLICIES = 3
"""Policies, learned from different draws; their mean decides."""
ALL_UPDATES = POLICIES * UPDATES
"""Updates of all of them, for the progress."""
TEMPERATURE = 0.3
"""Of the mean policy in the end, as full RL ends with."""
CLOSED_FORM_SD = 2
"""SD of the logits in closed form (the control): half of the surest, about what the learned policy has."""
FEWEST_BELIEVED = 3
"""Labels. On fewer no head is fitted."""
RIDGE = 1e-3
"""Squared features (of SD 1). Keeps the heads' equations solvable."""
MOST_JUDGING = 12_000
"""Voxels of trusted cases that a head is judged on, at most."""
FEWEST_TRUSTED = 4
"""Trusted labels. Fewer pay their agents for what suits these patients."""
FEWEST_JUDGED = 20
"""Labels. Of fewer, doubting some by mistake costs more than the wrong ones do."""
FARTHEST = 4.0
"""Deviation. What lies beyond is no worse."""
WINDOWS = 2
"""Training patches looked at in each case, around voxels of its label: at least one for each structure."""
PER_WINDOW = 1500
"""Voxels taken from each, at most."""
MOST_VALUES = 40_000_000
"""Features of all voxels together, at most: 160 MB."""
NEAR_VOXELS = 4
"""Voxels. So near the border of the label or of the prediction heads are fitted; elsewhere labels hardly differ."""
FINEST_LEVELS = 3
"""Encoder levels among the features, beside the decoder's."""

# Evidence: a label beside a prediction and the image.

LEAST_DISAGREEMENT = 0.02
"""1 - Dice. What right labels and good predictions differ by at least: below it logarithms tell noise apart."""
SEEN_AROUND_MM = 12.0
"""mm around label and prediction: edges are looked for within 10 mm."""
LEAST_ODDS = 1e-3
"""Probability, and change of intensity per mm. Keeps logarithms and ratios finite."""
SURE_PROBABILITY = 0.9
"""A network that is surer than this counts as being so sure: small networks are too sure of themselves."""
NEAR_LABEL_VOXELS = 6
"""Voxels. What a network draws farther from the label is its own mistake, or another thing of the kind."""
SMOOTHED_VOXELS = 0.7
"""Voxels (SD). The image is smoothed so before its edge is looked for: a voxel's noise is no edge."""
BORDERS_DIFFER_VOXELS = 1.2
"""Voxels. Borders that lie farther apart are two, and not one that is drawn a voxel's width beside the other."""
USUAL_BORDER_VOXELS = 10
"""Voxels of a border. So many are needed before its steepness counts as much as the usual one."""
FLATTEST = -3.0
"""Log sharpness of an edge along which nothing can be told."""

# Evidence: the drawn shape itself.

FLAT_SHARE = 0.5
"""Of the usual change of intensity across the label's border, per mm. Less than half of it is no edge."""
LEAST_SHARE_OF_SECTION = 0.02
"""Share of a cross-section. Every structure ends somewhere: less than this tells nothing."""
FEWEST_PAIRS, FEWEST_BENDS = 3, 5
"""Neighbouring slices, and slices between two others: fewer show no pattern."""
COPIED_SHARE = 0.02
"""Share of the voxels in which two slices differ. Below it, one is a copy of the other."""
LEAST_SHARE_COPIED = 0.05
"""Share of the slices. One of twenty can be like its neighbour by chance."""
NEAR_BORDER_VOXELS = 2
"""Voxels. So near the border its bends are looked at."""
LEAST_BEND_MM = 1e-3
"""mm. Keeps the ratio of straight borders finite."""

# The rule that is learned from spoiled labels.

VOXELS_AS_MM = 2.0
"""mm. Labels are spoiled as if voxels had this size, so that errors are as coarse as the grid shows them; the errors of
`data.noise_kinds` are then a third of a voxel to four voxels large."""
FEWEST_TO_LEARN = 10
"""Labels. Fewer do not show what is usual for right ones."""
SPOILED_IN_ALL = 400
"""Spoiled labels of a structure: about forty of each kind of error, beside two to five signs of it."""
FEWEST_SPOILED, MOST_SPOILED = 4, 10
"""Of each label: more versions of the same label tell little more. Fewer would tell nothing of a structure that few of
many labels show."""
FEWEST_OF_KIND = 5
"""Spoiled labels of a kind. Fewer do not show what its signs are."""
LOOKS = 10
"""Times that the rule is learned, each time with what the last one believes of the labels; then it hardly changes."""
MOST_WRONG = 0.6
"""Share of the labels. If more were wrong, they would be what is usual, and nothing could tell so."""
SPOILING_TRIES = 5
"""For each version: an error can leave a small label as it is, or nothing of it."""
LEAST_SPREAD = 1e-9
"""SD. Keeps signs that do not scatter from being divided by 0."""
FARTHEST_SIGN = 4.0
"""SD. What lies beyond counts no more."""
SHRINKAGE = 0.03
"""Of the logistic rules' squared weights. Errors that are made on purpose are coarser than those of readers: a rule
that tells the former apart without fail must not be as sure of the latter."""
SHRINKAGE_OF_SLOPE = 0.1
"""Share of a slope over the image's sharpness that is not believed: few cases show it badly."""
LEAST_BELIEF = 0.02
"""Weight. What the first rule takes for wrong still counts so much among the right ones: it may be mistaken."""
WRONG_BEFORE_LOOKING = 0.2
"""Share of wrong labels that is expected before anything is seen; it moves all probabilities, and no label's rank."""

# Audit: how probably a label is wrong.

EVEN_ODDS = 2.5
"""Deviation at which a label is as probably wrong as right."""
FEWEST = 5
"""Labels. Below there is no group to compare with; deviations then count from 0."""
SHARE_FLOOR = 0.1
"""Share of the label's volume. Spread of missing and leaking parts that is always allowed for."""
NEARNESS_TO_ZERO = 0.5
"""How much a reference group's distance from 0 counts against its tightness."""
DOUBT_BESIDE_INVERSION = 0.3
"""Weight of deviations where the inversion guard has the word: they mostly speak for a label then."""
CROSS_ENTROPY_SHARE = 0.5
"""Weight of the cross entropy's squared deviation beside the others'."""
SD_OF_DEVIATION = 1.4826
"""SD of a normal distribution in units of its median absolute deviation."""

# Audit in words: what is worth telling.

FEWEST_SLICES = 2
"""Slices. One more or less is how a structure's end is cut by the slices."""
LEAST_SHARE_TOLD = 0.01
"""Of a structure's volume: a smaller piece is hardly seen."""
LEAST_SHIFT_VOXELS = 0.5
"""Of a voxel's side: a border that lies off by less is where the voxels allow it to be."""
MOST_OF_A_STRUCTURE = 0.5
"""Share of a prediction, or of labels. More than half of a structure under another name is that structure."""

# Several raters.

ANOTHER_THING = 0.5
"""Dice. A rater whose mask has less with the consensus has drawn something else: most of both is not shared."""
FEWEST_OF_A_HABIT = 4
"""Cases. A habit is something seen in so many."""
STANDARD_ERRORS = 2.0
"""Standard errors. A habit's mean lies so many from 0, and half a voxel: less is no other border."""
