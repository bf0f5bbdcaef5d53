//! The dashboard: pages for people, made of the state that this manager has. No build step, no request to another host, no
//! script in a page.
//!
//! | file | what |
//! |---|---|
//! | `assets.rs` | style, scripts and icon, embedded |
//! | `visitor.rs` | who looks, and what they may do |
//! | `frame.rs` | what every page has around it: title, navigation, the other managers |
//! | `readable.rs` | problems as pages, or as a line in the page that asked |
//! | `answer.rs` | what a page or an action answers |
//! | `human.rs` | times, sizes and shares as people read them |
//! | `look.rs` | how states look, and the rows and tiles that several pages have |
//! | `live.rs` | the stream that tells a page to look again |
//! | `login.rs` | the login page |
//!
//! Invariants: whatever a person or a program has written is escaped; a visitor is shown no button that would be refused
//! for their role; every form works without script; a page says what is not known rather than guess.

mod answer;
mod assets;
mod frame;
mod human;
mod live;
mod login;
mod look;
mod readable;
mod visitor;

pub use readable::readable;

use crate::routes::Routes;

/// All pages, and what they are made of.
pub fn routes() -> Routes {
    assets::routes().merge(login::routes()).merge(live::routes())
}
