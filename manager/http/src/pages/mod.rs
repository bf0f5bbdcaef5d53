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
//! | `look.rs` | how states look |
//! | `links.rs` | words that lead to pages |
//! | `replicas.rs`, `parts.rs` | counts of tasks; tiles, tables, meters |
//! | `figures.rs` | what tasks use, asked of the nodes while somebody looks |
//! | `fields.rs` | what a form has sent |
//! | `cluster.rs`, `node.rs`, `services.rs`, `service.rs` | pages; `node_actions.rs`, `service_actions.rs` what is done there |
//! | `spec_table.rs`, `task_spec.rs` | specs as tables |
//! | `live.rs` | the stream that tells a page to look again |
//! | `login.rs` | the login page |
//!
//! Invariants: whatever a person or a program has written is escaped; a visitor is shown no button that would be refused
//! for their role; every form works without script; a page says what is not known rather than guess.

mod answer;
mod assets;
mod cluster;
mod fields;
mod figures;
mod frame;
mod human;
mod links;
mod live;
mod login;
mod look;
mod node;
mod node_actions;
mod parts;
mod readable;
mod replicas;
mod service;
mod service_actions;
mod services;
mod spec_table;
mod task_spec;
mod visitor;

pub use figures::Collector;
pub use readable::readable;

use crate::routes::Routes;

/// All pages, and what they are made of.
pub fn routes() -> Routes {
    [
        login::routes(),
        live::routes(),
        cluster::routes(),
        node::routes(),
        node_actions::routes(),
        services::routes(),
        service::routes(),
        service_actions::routes(),
    ]
    .into_iter()
    .fold(assets::routes(), Routes::merge)
}
