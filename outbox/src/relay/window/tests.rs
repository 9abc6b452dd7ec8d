//! The window beside a model of the queue.
