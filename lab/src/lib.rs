//! The emulated world: what lies between two regions, for tests and for `longspan up`.
//!
//! * [`matrix`]: regions and the round trips between them, as measured in the real world.
//! * [`wan`]: the pure, seeded model of one direction of a link.
//! * [`world`]: which links there are and who lives where; a file that can be changed while it is
//!   in use.
//! * [`shim`]: the model as a UDP socket under QUIC; [`stream`]: as a TCP connection.

pub mod matrix;
pub mod shim;
pub mod stream;

pub mod wan;
pub mod world;
