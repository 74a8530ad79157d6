-- One import at a time; readers and the worker's commits (last values refer to points) go on.
LOCK TABLE device, point IN SHARE ROW EXCLUSIVE MODE
