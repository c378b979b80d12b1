//! The whole system with real parts: the `pams-server` program in a process of its own, agents beside it or in processes
//! of theirs, sockets on loopback, HTTP from the outside. What goes wrong is made to go wrong: processes are killed,
//! packets are lost, delayed and cut off by the emulated network of the socket.

mod cluster;
mod crash;
mod csv;
mod goodbye;
mod harness;
mod http;
mod joining;
mod ledger;
mod pams;
mod partition;
mod peer;
mod probes;
mod restart;
mod roster;
mod servers;
mod subscribe;
mod timing;
mod twins;
mod views;
