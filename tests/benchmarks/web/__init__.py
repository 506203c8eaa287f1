"""What the dashboard costs: pages over a full database, long runs, news on the screen, many open pages."""
