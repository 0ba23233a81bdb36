"""Worker processes: started, listened to, ended; what they need, and the models that they make."""
