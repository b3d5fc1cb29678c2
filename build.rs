//! Placeholder of the skeleton: see the sandbox branch.
fn main() {}
