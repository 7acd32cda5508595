//! Node SDK; empty until its own issue.
