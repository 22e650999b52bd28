//! Integration tests: one binary (each further one costs a minute of linking), one module a promise.

mod imports;
