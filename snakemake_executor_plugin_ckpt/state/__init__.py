"""The job folder on the shared file system: the only truth about a job."""
