"""Real processes, really killed: for jobs that use sockets, threads and subprocesses of their own."""
