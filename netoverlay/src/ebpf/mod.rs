//! Virtual addresses translated when a socket asks for them, by eBPF programs at the root of the control groups.
//!
//! A task's call to connect to a virtual address is changed into one to a backend before a packet exists, so nothing is left to
//! translate for each connection. [`programs`] says what the kernel runs, [`layout`] what the maps hold, [`frontends`] what of
//! the desired state belongs in them. All of it pure: [`crate::kernel`] loads and fills, [`crate::plan`] decides.
//!
//! The packet filter's rules for virtual addresses stay in every task's namespace, as they are without this. A program that has
//! no answer (another protocol, a connected datagram socket, a slot that has just gone, no programs at all) leaves the address
//! alone, and the packet filter translates the packets. So nothing here has to be there for a task to reach a service, and every
//! step of a change may be seen half done.
//!
//! | what a task does | who translates |
//! |---|---|
//! | TCP `connect` | programs; refused at once where there is no backend |
//! | UDP `sendto` on an unconnected socket | programs; the socket stays with its backend while that is one |
//! | UDP `connect` | packet filter: its flow moves on when the backend goes, a rewritten address could not |
//! | ICMP, raw sockets, SCTP, MPTCP, UDP-Lite | packet filter |
//! | in a namespace that a task made itself, or on the node | nobody, as without this |

pub mod asm;
pub mod frontends;
pub mod layout;
pub mod programs;

pub use frontends::{Backends, Frontend, FrontendChange, Frontends, TranslatorState};
