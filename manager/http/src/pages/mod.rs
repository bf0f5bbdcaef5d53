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
//! | `parts.rs` | tiles, tables of tasks, meters |
//! | `figures.rs` | what tasks use, asked of the nodes while somebody looks |
//! | `fields.rs` | what a form has sent |
//! | `cluster.rs`, `node.rs`, `services.rs`, `service.rs` | pages; `node_actions.rs`, `service_actions.rs` what is done there |
//! | `spec_table.rs` | a spec as a table |
//! | `live.rs` | the stream that tells a page to look again |
//! | `login.rs` | the login page |
//! | `chronicle.rs`, `events.rs` | what happened and who did it |
//! | `task.rs`, `task_history.rs`, `task_spec.rs` | a task: how it came to be what it is, what it runs, its terminal |
//! | `logs.rs` | what tasks write |
//! | `networks.rs`, `volumes.rs`, `files.rs`, `images.rs` | what services use: networks, volumes, configs and secrets, images |
//! | `stacks.rs`, `replicas.rs` | stacks, and how far their services are |
//! | `apply.rs`, `apply_plan.rs` | a Compose file is planned and applied |
//! | `tokens.rs` | tokens of the HTTP API |
//!
//! Invariants: whatever a person or a program has written is escaped; a visitor is shown no button that would be refused
//! for their role; every form works without script; a page says what is not known rather than guess.

mod answer;
mod apply;
mod apply_plan;
mod assets;
mod chronicle;
mod cluster;
mod events;
mod fields;
mod figures;
mod files;
mod frame;
mod human;
mod images;
mod links;
mod live;
mod login;
mod logs;
mod look;
mod networks;
mod node;
mod node_actions;
mod parts;
mod readable;
mod replicas;
mod service;
mod service_actions;
mod services;
mod spec_table;
mod stacks;
mod task;
mod task_history;
mod task_spec;
mod tokens;
mod visitor;
mod volumes;

pub use figures::Collector;
pub use readable::readable;

use crate::routes::Routes;

/// All pages, and what they are made of.
pub fn routes() -> Routes {
    let frame = assets::routes().merge(login::routes()).merge(live::routes());
    let main = [
        cluster::routes(),
        node::routes(),
        node_actions::routes(),
        services::routes(),
        service::routes(),
        service_actions::routes(),
    ];
    let detail = [
        events::routes(),
        task::routes(),
        logs::routes(),
        networks::routes(),
        volumes::routes(),
        files::routes(),
        images::routes(),
        stacks::routes(),
        apply::routes(),
        tokens::routes(),
    ];
    main.into_iter().chain(detail).fold(frame, Routes::merge)
}
