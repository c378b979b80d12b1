//! To come.

/// Length of our connection ids.
pub const CID_BYTES: usize = 4;
