//! Inheritance (being written).
