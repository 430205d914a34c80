//! The driver over real sockets on loopback, each test with nodes and certificates of its own.

mod calls;
mod chain;
mod control;
mod controller;
mod failure;
mod heal;
mod logs;
mod probes;
mod refusals;
mod roomlog;
mod stranger;
mod wire;
mod world;
