//! Packet filter tables: changes sent, contents listed.

use std::collections::BTreeMap;
use std::io;

use super::KernelError;
use super::netlink::{Answer, Netlink};
use crate::nft::message::{self, Attributes, Message, attribute, attributes, comment_data, kind};
use crate::nft::sets::{MapsTo, Scope, Set};
use crate::nft::skeleton::Layout;
use crate::nft::table::Class;
use crate::nft::{Elements, Octets, TableChange, TableState, Value, skeleton, stamp};

/// `nfgenmsg` before the attributes.
const GENERIC_HEADER: usize = 4;

/// Applies a change: the classes that it needs first, then all of it as one transaction.
pub(super) fn change(
    netlink: &mut Netlink,
    layout: Layout<'_>,
    table: &str,
    change: &TableChange,
) -> Result<(), KernelError> {
    if !change.rebuild && !change.classes.is_empty() {
        send(netlink, table, skeleton::classes(table, &change.classes))?;
        // What was on its way before is through then. A task that starts is not held up for it: its table is young.
        if layout.scope() == Scope::Node {
            super::bpf::wait_for_programs();
        }
    }
    send(netlink, table, skeleton::messages(layout, table, change))
}

/// Replaces the elements of one set, given the ones that are there.
pub(super) fn replace(
    netlink: &mut Netlink,
    table: &str,
    remove: &Elements,
    add: &Elements,
) -> Result<(), KernelError> {
    let mut messages = message::remove_elements(table, remove);
    messages.extend(message::add_elements(table, add));
    send(netlink, table, messages)
}

fn send(netlink: &mut Netlink, table: &str, messages: Vec<Message>) -> Result<(), KernelError> {
    if messages.is_empty() {
        return Ok(());
    }
    let described: Vec<u16> = messages.iter().map(|m| m.kind & 0xff).collect();
    netlink.transact(message::transaction(messages)).map_err(|(index, source)| {
        let step = index.checked_sub(1).and_then(|i| described.get(i)).map_or("transaction", |k| step_name(*k));
        KernelError::Refused { what: format!("change packet filter table {table} ({step}, message {index})"), source }
    })
}

fn step_name(number: u16) -> &'static str {
    match number {
        kind::NEW_TABLE => "new table",
        kind::DEL_TABLE => "delete table",
        kind::NEW_CHAIN => "new chain",
        kind::NEW_RULE => "new rule",
        kind::NEW_SET => "new set",
        kind::NEW_ELEMENTS => "new elements",
        kind::DEL_ELEMENTS => "delete elements",
        _ => "message",
    }
}

/// Deletes a table. Not an error if there is none.
pub(super) fn delete(netlink: &mut Netlink, table: &str) -> Result<(), KernelError> {
    let messages = vec![message::new_table(table, ""), message::delete_table(table)];
    send(netlink, table, messages)
}

/// Whether there is a table of that name, whoever made it.
pub(super) fn exists(netlink: &mut Netlink, table: &str) -> Result<bool, KernelError> {
    let ask = message::message(kind::GET_TABLE, 0, Attributes::default().text(1, table));
    match netlink.get(ask) {
        Ok(answer) => Ok(answer.is_some()),
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(source) => Err(KernelError::Refused { what: format!("look for packet filter table {table}"), source }),
    }
}

/// Lists a table. The name server's elements come separately: they are this process's business, not the planner's.
pub(super) fn list(netlink: &mut Netlink, scope: Scope, table: &str) -> Result<(TableState, Elements), KernelError> {
    let refused =
        |source: io::Error| KernelError::Refused { what: format!("list packet filter table {table}"), source };
    let (mut state, mut names) = (TableState::default(), Elements::default());
    if !table_is_ours(netlink, table).map_err(refused)? {
        return Ok((state, names));
    }
    let rules = list_rules(netlink, table).map_err(refused)?;
    state.intact = rules == expected(scope);
    if !state.intact {
        return Ok((state, names));
    }
    state.classes = list_classes(netlink, table).map_err(refused)?.into_iter().collect();
    for set in Set::ALL.iter().filter(|s| s.scope() == scope) {
        let elements = if *set == Set::Dns { &mut names } else { &mut state.elements };
        match list_set(netlink, table, *set, elements) {
            // Somebody deleted the set: the table is written anew.
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return Ok((TableState::default(), names)),
            other => other.map_err(refused)?,
        }
    }
    Ok((state, names))
}

/// Lists the name server's elements of a sandbox's table.
pub(super) fn list_names(netlink: &mut Netlink, table: &str) -> Result<Elements, KernelError> {
    let mut names = Elements::default();
    match list_set(netlink, table, Set::Dns, &mut names) {
        Ok(()) => Ok(names),
        Err(source) => {
            Err(KernelError::Refused { what: format!("list the name server's part of table {table}"), source })
        }
    }
}

/// Makes the table of the ingress device anew.
pub(super) fn stamp(netlink: &mut Netlink, table: &str, device: &str) -> Result<(), KernelError> {
    send(netlink, table, stamp::messages(table, device))
}

/// Deletes the table of the ingress device. Not an error if there is none.
pub(super) fn unstamp(netlink: &mut Netlink, table: &str) -> Result<(), KernelError> {
    send(netlink, table, stamp::removal(table))
}

/// Whether the ingress device has its table: the chain goes with the device, or with whoever deletes it.
pub(super) fn is_stamped(netlink: &mut Netlink, table: &str, device: &str) -> Result<bool, KernelError> {
    let ask = |kind, attributes| stamp::of_family(message::message(kind, 0, attributes));
    let refused = |source| KernelError::Refused { what: "list the ingress device's packet filter".to_owned(), source };
    let chains = netlink.dump(&ask(kind::GET_CHAIN, Attributes::default())).map_err(refused)?;
    let is_ours = |answer: &Answer| {
        let body = payload(answer);
        let hook = attribute(body, 4);
        let devices = hook.and_then(|hook| attribute(hook, 4)).unwrap_or_default();
        let mut devices = attributes(devices).map(|(_, name)| name).chain(hook.and_then(|hook| attribute(hook, 3)));
        text(body, 1).as_deref() == Some(table)
            && text(body, 3).as_deref() == Some(stamp::CHAIN)
            && devices.any(|name| String::from_utf8_lossy(name).trim_end_matches('\0') == device)
    };
    if !chains.iter().any(is_ours) {
        return Ok(false);
    }
    let rules = netlink.dump(&ask(kind::GET_RULE, Attributes::default().text(1, table))).map_err(refused)?;
    let ours = rules.iter().filter(|answer| text(payload(answer), 1).as_deref() == Some(table));
    Ok(ours.count() == stamp::RULES)
}

type RulesByChain = BTreeMap<String, Vec<Vec<u8>>>;

fn expected(scope: Scope) -> RulesByChain {
    let mut chains = RulesByChain::new();
    for (chain, comment) in skeleton::expected_rules(scope) {
        chains.entry(chain).or_default().push(comment_data(comment));
    }
    chains
}

fn table_is_ours(netlink: &mut Netlink, table: &str) -> io::Result<bool> {
    let ask = message::message(kind::GET_TABLE, 0, Attributes::default().text(1, table));
    match netlink.get(ask) {
        Ok(Some(answer)) => {
            Ok(attribute(payload(&answer), 6) == Some(comment_data(&skeleton::table_comment()).as_slice()))
        }
        Ok(None) => Ok(false),
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(e) => Err(e),
    }
}

fn list_rules(netlink: &mut Netlink, table: &str) -> io::Result<RulesByChain> {
    let ask = message::message(kind::GET_RULE, 0, Attributes::default().text(1, table));
    let mut chains = RulesByChain::new();
    for answer in netlink.dump(&ask)? {
        let body = payload(&answer);
        let (Some(chain), Some(of)) = (text(body, 2), text(body, 1)) else { continue };
        if of == table && Class::of_chain(&chain).is_none() {
            chains.entry(chain).or_default().push(attribute(body, 7).unwrap_or_default().to_vec());
        }
    }
    Ok(chains)
}

fn list_classes(netlink: &mut Netlink, table: &str) -> io::Result<Vec<Class>> {
    let ask = message::message(kind::GET_CHAIN, 0, Attributes::default());
    let mut classes = Vec::new();
    for answer in netlink.dump(&ask)? {
        let body = payload(&answer);
        if text(body, 1).as_deref() == Some(table) {
            classes.extend(text(body, 3).as_deref().and_then(Class::of_chain));
        }
    }
    Ok(classes)
}

/// Lists base chains of other tables that drop forwarded packets unless a rule accepts them.
pub(super) fn forward_drops(netlink: &mut Netlink, table: &str) -> Result<Vec<String>, KernelError> {
    const FORWARD: u32 = 2;
    const DROP: u32 = 0;
    let mut ask = message::message(kind::GET_CHAIN, 0, Attributes::default());
    ask.body[0] = 0;
    let refused = |source| KernelError::Refused { what: "list packet filter chains".to_owned(), source };
    let mut found = Vec::new();
    for answer in netlink.dump(&ask).map_err(refused)? {
        let body = payload(&answer);
        let number = |value: Option<&[u8]>| value.and_then(|v| v.try_into().ok()).map(u32::from_be_bytes);
        let hook = attribute(body, 4).and_then(|hook| number(attribute(hook, 1)));
        let family = match answer.body.first() {
            Some(1) => "inet",
            Some(2) => "ip",
            Some(10) => "ip6",
            _ => continue,
        };
        let (Some(of), Some(chain)) = (text(body, 1), text(body, 3)) else { continue };
        if hook == Some(FORWARD) && number(attribute(body, 5)) == Some(DROP) && of != table {
            found.push(format!("{family} {of} {chain}"));
        }
    }
    Ok(found)
}

fn list_set(netlink: &mut Netlink, table: &str, set: Set, elements: &mut Elements) -> io::Result<()> {
    let ask = message::message(kind::GET_ELEMENTS, 0, Attributes::default().text(1, table).text(2, set.name()));
    for answer in netlink.dump(&ask)? {
        let Some(list) = attribute(payload(&answer), 3) else { continue };
        for (_, element) in attributes(list) {
            let Some(key) = attribute(element, 1).and_then(|k| attribute(k, 1)) else { continue };
            let Some(value) = read_value(set, element) else { continue };
            let Some(key) = Octets::new(key) else { continue };
            elements.0.insert((set, key), value);
        }
    }
    Ok(())
}

fn read_value(set: Set, element: &[u8]) -> Option<Value> {
    let data = || attribute(element, 2);
    match set.maps_to() {
        MapsTo::Nothing => Some(Value::Member),
        MapsTo::Data(_) => Octets::new(attribute(data()?, 1)?).map(Value::Data),
        MapsTo::Chain => Class::of_chain(&text(attribute(data()?, 2)?, 2)?).map(Value::Chain),
    }
}

fn payload(answer: &Answer) -> &[u8] {
    answer.body.get(GENERIC_HEADER..).unwrap_or_default()
}

fn text(body: &[u8], kind: u16) -> Option<String> {
    attribute(body, kind).map(|bytes| String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned())
}
