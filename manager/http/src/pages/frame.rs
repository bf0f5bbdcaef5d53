//! What every page has around it: title, navigation, who is logged in, the stream that keeps it current, the other managers.

use std::borrow::Borrow;
use std::net::SocketAddr;

use berth_manager::api::find;
use berth_manager::store::State;
use berth_proto::id::NodeId;
use berth_proto::state::ApiRole;
use berth_proto::time::Timestamp;

use super::assets;
use super::human::When;
use super::visitor::Visitor;
use crate::site::Site;

/// One entry of the navigation.
pub struct Entry {
    /// Where it leads; also the section that a page names.
    pub path: &'static str,
    /// The word for it.
    pub word: &'static str,
    /// Pressed after `g`.
    pub key: char,
    /// Shown to who has this role.
    role: ApiRole,
}

/// The navigation, in order.
const ENTRIES: [Entry; 11] = [
    entry("/", "Cluster", 'c', ApiRole::Viewer),
    entry("/services", "Services", 's', ApiRole::Viewer),
    entry("/stacks", "Stacks", 't', ApiRole::Viewer),
    entry("/networks", "Networks", 'n', ApiRole::Viewer),
    entry("/volumes", "Volumes", 'v', ApiRole::Viewer),
    entry("/configs", "Configs", 'o', ApiRole::Viewer),
    entry("/secrets", "Secrets", 'x', ApiRole::Viewer),
    entry("/images", "Images", 'i', ApiRole::Viewer),
    entry("/events", "Events", 'e', ApiRole::Viewer),
    entry("/apply", "Apply", 'a', ApiRole::Operator),
    entry("/tokens", "Tokens", 'k', ApiRole::Admin),
];

const fn entry(path: &'static str, word: &'static str, key: char, role: ApiRole) -> Entry {
    Entry { path, word, key, role }
}

/// Another manager, whose dashboard shows the same.
pub struct OtherManager {
    /// Its host name.
    pub name: String,
    /// Its address, as the host of a URL.
    pub host: String,
}

/// What every page has around it. A page's template extends `base.html` and has one of these as `frame`.
pub struct Frame {
    /// Title of the page.
    pub title: String,
    /// The entry of the navigation that it belongs to, by its path.
    pub section: &'static str,
    /// Name of the cluster.
    pub cluster: String,
    /// Who looks; `None` before the login.
    pub visitor: Option<Visitor>,
    /// Kinds of objects whose changes concern the page (`task,service`); empty for a page that stays as it is.
    pub live: &'static str,
    /// Managers to go to when this one is lost.
    pub others: Vec<OtherManager>,
    /// When it was made.
    pub now: Timestamp,
}

impl Frame {
    /// The frame of a page that is shown to somebody who is logged in.
    pub fn new(site: &Site, state: &State, visitor: &Visitor, section: &'static str, title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            section,
            cluster: cluster_name(state),
            visitor: Some(visitor.clone()),
            live: "",
            others: others(state, site.manager.node),
            now: std::time::SystemTime::now().into(),
        }
    }

    /// The frame of a page that anybody sees: without navigation, and without a word about the cluster.
    pub fn bare(title: impl Into<String>) -> Self {
        let now = std::time::SystemTime::now().into();
        let (title, cluster) = (title.into(), String::new());
        Self { title, section: "", cluster, visitor: None, live: "", others: Vec::new(), now }
    }

    /// Keeps the page current: its regions with `data-live` and an id are fetched again when objects of these kinds change.
    #[must_use]
    pub fn live(self, kinds: &'static str) -> Self {
        Self { live: kinds, ..self }
    }

    /// The entries of the navigation that this visitor can use.
    pub fn entries(&self) -> impl Iterator<Item = &'static Entry> {
        let role = self.visitor.as_ref().map(|visitor| visitor.caller.role);
        ENTRIES.iter().filter(move |entry| role.is_some_and(|role| role >= entry.role))
    }

    /// Path of an embedded file.
    pub fn asset(&self, name: &str) -> String {
        assets::path(name)
    }

    /// Whether buttons for operators are shown.
    pub fn may_operate(&self) -> bool {
        self.visitor.as_ref().is_some_and(Visitor::may_operate)
    }

    /// Whether buttons for admins are shown.
    pub fn may_administer(&self) -> bool {
        self.visitor.as_ref().is_some_and(Visitor::may_administer)
    }

    /// A time, as this page shows it. Templates hand over fields by reference.
    pub fn when(&self, at: impl Borrow<Timestamp>) -> When {
        When { at: *at.borrow(), now: self.now }
    }
}

fn cluster_name(state: &State) -> String {
    state.cluster().map(|cluster| cluster.spec.name.clone()).unwrap_or_default()
}

/// The other managers, by name. They are taken to serve this page's port: where they listen, the state does not say.
fn others(state: &State, own: NodeId) -> Vec<OtherManager> {
    let managers = state.nodes().filter(|node| node.manager.is_some() && node.id != own);
    let mut others: Vec<OtherManager> = managers
        .filter_map(|node| {
            let address: SocketAddr = node.status.address.parse().ok()?;
            let host = match address {
                SocketAddr::V4(v4) => v4.ip().to_string(),
                SocketAddr::V6(v6) => format!("[{}]", v6.ip()),
            };
            Some(OtherManager { name: find::host_name(node).into_owned(), host })
        })
        .collect();
    others.sort_by(|a, b| a.name.cmp(&b.name));
    others
}
