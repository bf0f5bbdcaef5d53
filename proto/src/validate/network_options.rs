//! Options of network drivers (Compose's `driver_opts`, `network create --opt`): what each one does here.
//!
//! Pure. Docker's drivers ignore an option that they do not know; here every option has an answer. Those that only name things
//! may be left out with a warning where a file is converted; those that say who reaches whom are honoured or refused, never
//! left out.

use super::Checker;
use crate::spec::{NetworkDriver, NetworkSpec};

/// Payload size of the links, in bytes.
pub const MTU: &str = "com.docker.network.driver.mtu";
/// Whether what leaves the network takes the node's address.
pub const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
/// Whether what goes from node to node is encrypted; the key alone, or anything but a no, is a yes, as Docker has it.
pub const ENCRYPTED: &str = "encrypted";
/// Whether tasks of the network reach each other ("inter-container connectivity").
pub const ICC: &str = "com.docker.network.bridge.enable_icc";

const BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";

/// Options that change nothing of who reaches whom, and why they have no effect.
const NO_EFFECT: [(&str, &str); 6] = [
    ("com.docker.network.bridge.name", "Berth names its bridges itself; `ip -d link show type bridge` lists them"),
    ("com.docker.network.bridge.default_bridge", "the network `bridge` is the default one, always"),
    ("com.docker.network.container_iface_prefix", "interfaces are named eth0, eth1 and so on"),
    ("com.docker.network.driver.overlay.vxlanid_list", "VXLAN identifiers are given out by Berth"),
    ("com.docker.network.enable_ipv4", "networks always have IPv4"),
    ("com.docker.network.enable_ipv6", "it is a field of the network: `enable_ipv6`"),
];

/// Options that are refused unless they ask for what holds anyway: key, the values that do, what to do instead.
const FIXED: [(&str, &[&str], &str); 7] = [
    (BINDING, &["", "0.0.0.0"], "name the address with each port: `127.0.0.1:8080:80`"),
    ("com.docker.network.bridge.gateway_mode_ipv4", &["", "nat"], "`internal: true` closes a network"),
    ("com.docker.network.bridge.gateway_mode_ipv6", &["", "nat"], "`internal: true` closes a network"),
    ("com.docker.network.bridge.inhibit_ipv4", &["", "false", "0"], "leave it out"),
    ("com.docker.network.bridge.trusted_host_interfaces", &[""], "publish the ports that others should reach"),
    ("com.docker.network.host_ipv4", &[""], "leave it out: traffic leaves with the address that the node's routes say"),
    ("com.docker.network.host_ipv6", &[""], "leave it out: traffic leaves with the address that the node's routes say"),
];

/// Option of macvlan networks: the node's interface that the tasks are on.
pub const PARENT: &str = "parent";
/// Option of macvlan networks: which frames tasks exchange with each other.
pub const MACVLAN_MODE: &str = "macvlan_mode";
const MACVLAN_MODES: [&str; 4] = ["bridge", "vepa", "private", "passthru"];

/// What an option does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriverOption {
    /// What it says.
    Honoured,
    /// Nothing, and nothing of how tasks reach each other and the outside is other than asked for. Why, for a person.
    NoEffect(String),
    /// It cannot be had, or it is no option.
    Refused {
        /// What is wrong.
        problem: String,
        /// What to do; empty when the problem says it.
        hint: String,
    },
}

/// What an option of a network of that driver does. Names and values are those of Docker's bridge and overlay drivers.
pub fn driver_option(driver: NetworkDriver, key: &str, value: &str) -> DriverOption {
    use NetworkDriver::{Bridge, Host, Macvlan, Overlay};
    let refused = |problem: String, hint: &str| DriverOption::Refused { problem, hint: hint.to_owned() };
    let has_bridge = matches!(driver, Bridge | Overlay);
    if matches!(driver, Host | NetworkDriver::None) {
        return refused("this driver has no options".to_owned(), "leave it out");
    }
    if let Some((_, why)) = NO_EFFECT.iter().find(|(known, _)| *known == key) {
        return DriverOption::NoEffect((*why).to_owned());
    }
    if let Some((_, holds, hint)) = FIXED.iter().find(|(known, ..)| *known == key) {
        let fine = holds.contains(&value);
        return if fine { DriverOption::Honoured } else { refused(format!("{value:?} is not supported"), hint) };
    }
    match key {
        MTU => match mtu(value) {
            Some(_) => DriverOption::Honoured,
            None => refused(format!("{value:?} is not a payload size: {LEAST_MTU} to {MOST_MTU} bytes"), ""),
        },
        MASQUERADE | ICC if has_bridge => match (key, flag(value)) {
            (_, None) => refused(format!("{value:?} is neither true nor false"), ""),
            (ICC, Some(false)) if driver == Overlay => refused(
                "tasks of an overlay network always reach each other".to_owned(),
                "a bridge network can part them",
            ),
            _ => DriverOption::Honoured,
        },
        ENCRYPTED if driver == Overlay => DriverOption::Honoured,
        PARENT if driver == Macvlan => match is_link_name(value) {
            true => DriverOption::Honoured,
            false => refused(format!("{value:?} is no name of a network interface"), "such as eth0"),
        },
        MACVLAN_MODE if driver == Macvlan => match MACVLAN_MODES.contains(&value) {
            true => DriverOption::Honoured,
            false => refused(format!("{value:?} is no mode"), "bridge (the default), vepa, private and passthru are"),
        },
        _ => refused(unknown(driver), "leave it out, or look for a typing error"),
    }
}

fn unknown(driver: NetworkDriver) -> String {
    let name = match driver {
        NetworkDriver::Overlay => "overlay",
        NetworkDriver::Bridge => "bridge",
        NetworkDriver::Macvlan => "macvlan",
        NetworkDriver::Host => "host",
        NetworkDriver::None => "none",
    };
    format!("is not an option of the driver {name}")
}

/// Every option that some driver knows.
pub fn driver_options() -> impl Iterator<Item = &'static str> {
    let named = NO_EFFECT.iter().map(|(key, _)| *key).chain(FIXED.iter().map(|(key, ..)| *key));
    named.chain([MTU, MASQUERADE, ICC, ENCRYPTED, PARENT, MACVLAN_MODE])
}

/// The least payload that IPv4 must carry (RFC 791), and the least for IPv6 (RFC 8200).
const LEAST_MTU: u32 = 68;
const LEAST_MTU_V6: u32 = 1280;
/// More does not fit the length field of a packet.
const MOST_MTU: u32 = 65_535;

/// A payload size in bytes.
pub fn mtu(text: &str) -> Option<u32> {
    text.parse().ok().filter(|mtu| (LEAST_MTU..=MOST_MTU).contains(mtu))
}

/// Yes or no, in all the forms that Docker takes (Go's `strconv.ParseBool`).
pub fn flag(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// As the kernel takes it: at most 15 bytes, no slash, no white space (`dev_valid_name`).
fn is_link_name(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && !matches!(text, "." | "..")
        && !text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control())
}

/// A stored network has only options that are honoured.
pub(super) fn check(spec: &NetworkSpec, check: &mut Checker) {
    if spec.driver == NetworkDriver::Macvlan && !spec.options.contains_key(PARENT) {
        let hint = "name the node's interface that the tasks are on, such as parent: eth0".to_owned();
        check
            .within("options", |check| check.refuse_with("a macvlan network needs the option parent".to_owned(), hint));
    }
    for (key, value) in &spec.options {
        let (problem, hint) = match driver_option(spec.driver, key, value) {
            DriverOption::Honoured if spec.ipv6 && key == MTU && mtu(value).is_some_and(|mtu| mtu < LEAST_MTU_V6) => {
                (format!("{value} bytes are too few for IPv6: at least {LEAST_MTU_V6}"), String::new())
            }
            DriverOption::Honoured => continue,
            DriverOption::NoEffect(why) => (format!("has no effect: {why}"), "leave it out".to_owned()),
            DriverOption::Refused { problem, hint } => (problem, hint),
        };
        check.within("options", |check| check.within(key, |check| check.refuse_with(problem, hint)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(driver: NetworkDriver, key: &str, value: &str) -> &'static str {
        match driver_option(driver, key, value) {
            DriverOption::Honoured => "honoured",
            DriverOption::NoEffect(_) => "no effect",
            DriverOption::Refused { .. } => "refused",
        }
    }

    #[test]
    fn every_option_has_an_answer() {
        use NetworkDriver::{Bridge, Host, Macvlan, Overlay};
        for (driver, key, value, answer) in [
            (Bridge, MTU, "1400", "honoured"),
            (Overlay, MTU, "9000", "honoured"),
            (Bridge, MTU, "14oo", "refused"),
            (Bridge, MTU, "67", "refused"),
            (Bridge, MTU, "65536", "refused"),
            (Bridge, MASQUERADE, "False", "honoured"),
            (Overlay, MASQUERADE, "0", "honoured"),
            (Bridge, MASQUERADE, "no", "refused"),
            (Bridge, ICC, "false", "honoured"),
            (Overlay, ICC, "true", "honoured"),
            (Overlay, ICC, "false", "refused"),
            (Macvlan, ICC, "false", "refused"),
            (Bridge, BINDING, "0.0.0.0", "honoured"),
            (Bridge, BINDING, "127.0.0.1", "refused"),
            (Bridge, "com.docker.network.bridge.gateway_mode_ipv4", "nat", "honoured"),
            (Bridge, "com.docker.network.bridge.gateway_mode_ipv4", "routed", "refused"),
            (Bridge, "com.docker.network.bridge.name", "br0", "no effect"),
            (Overlay, ENCRYPTED, "", "honoured"),
            (Overlay, ENCRYPTED, "true", "honoured"),
            (Overlay, ENCRYPTED, "false", "honoured"),
            (Bridge, ENCRYPTED, "true", "refused"),
            (Macvlan, "parent", "eth0", "honoured"),
            (Macvlan, "parent", "eth0/1", "refused"),
            (Macvlan, "macvlan_mode", "vepa", "honoured"),
            (Macvlan, "macvlan_mode", "ring", "refused"),
            (Bridge, "parent", "eth0", "refused"),
            (Bridge, "com.docker.network.brige.enable_icc", "false", "refused"),
            (Host, MTU, "1400", "refused"),
        ] {
            assert_eq!(said(driver, key, value), answer, "{driver:?} {key}={value}");
        }
    }

    #[test]
    fn a_stored_network_has_only_what_is_honoured() {
        let options = [(ICC, "false"), (MTU, "1000"), ("com.docker.network.bridge.name", "br0"), ("typo", "x")];
        let spec = NetworkSpec {
            name: "n".parse().expect("a name"),
            stack: None,
            labels: Default::default(),
            driver: NetworkDriver::Bridge,
            options: options.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            internal: false,
            attachable: false,
            ipv6: true,
            ipam: Vec::new(),
        };
        let invalid = crate::validate::Validate::validate(&spec).expect_err("three of them");
        let said: Vec<String> = invalid.errors.iter().map(ToString::to_string).collect();
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(said[0].starts_with("options.com.docker.network.bridge.name: has no effect"), "{said:?}");
        assert!(said[1].contains("at least 1280"), "{said:?}");
        assert_eq!(
            said[2],
            "options.typo: is not an option of the driver bridge (leave it out, or look for a typing error)"
        );
    }

    #[test]
    fn options_are_listed_once() {
        let all: Vec<_> = driver_options().collect();
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        for key in all {
            let known =
                [NetworkDriver::Bridge, NetworkDriver::Overlay, NetworkDriver::Macvlan].into_iter().any(|driver| {
                    let unknown = DriverOption::Refused {
                        problem: unknown(driver),
                        hint: "leave it out, or look for a typing error".to_owned(),
                    };
                    driver_option(driver, key, "") != unknown
                });
            assert!(known, "{key}");
        }
    }
}
