//! The emulated world.
