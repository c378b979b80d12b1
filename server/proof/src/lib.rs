//! PAMS on hosts of its own: a server and agents as processes, each in a network namespace, joined by a user-space link that
//! delays, loses, reorders, doubles and cuts. It carries any IPv4 packet, so that ICMP can be measured on the same path, beside
//! what PAMS says of it. Needs root and Linux; nothing of it is part of the product.
//!
//! [`wire`] is the link, [`lab`] the hosts, [`role`] what runs on them, [`pams`] how they are asked, [`icmp`] the other
//! witness, [`stages`] what both say of one path. `tests/hosts` are the scenarios; `pams-proof icmp` gives the figure of
//! the README. [`cluster`] is what happens to three servers and sixty agents ([`crowd`]), also as `pams-proof cluster`.

pub mod by_hand;
pub mod cluster;
pub mod crowd;
pub mod icmp;
pub mod lab;
pub mod pams;
pub mod role;
pub mod stages;
pub mod wire;
