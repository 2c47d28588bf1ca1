//! Special values and sampled errors on every level this machine has.
