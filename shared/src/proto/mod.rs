//! Generated from `proto/pams/v1`; see `tests/proto.rs`.
