//! Python SDK; empty until its own issue.
