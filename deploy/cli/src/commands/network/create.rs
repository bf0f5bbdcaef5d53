//! `berth network create`.

use std::net::IpAddr;

use berth_proto::name::NetworkName;
use berth_proto::pb;
use berth_proto::spec::{IpamPool, NetworkDriver, NetworkSpec};
use clap::Args;
use ipnet::IpNet;

use crate::cli::Context;
use crate::client::refusal::refused;
use crate::flags::not_yet::{Never, NotYet};
use crate::flags::value::{parse_label, parse_pair, parse_word};
use crate::ui::{Failure, Outcome, terminal};

/// Flags of `network create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Name
    name: NetworkName,
    /// bridge, overlay or macvlan
    #[arg(short, long, default_value = "bridge", value_parser = parse_word::<NetworkDriver>)]
    driver: NetworkDriver,
    /// Subnet in CIDR form, one for each address family
    #[arg(long, value_name = "CIDR")]
    subnet: Vec<IpNet>,
    /// Gateway of the subnet that it lies in
    #[arg(long, value_name = "ADDRESS")]
    gateway: Vec<IpAddr>,
    /// Give tasks addresses from this part of the subnet
    #[arg(long, value_name = "CIDR")]
    ip_range: Vec<IpNet>,
    /// Address that is taken, by name
    #[arg(long, value_name = "NAME=ADDRESS", value_parser = parse_pair)]
    aux_address: Vec<(String, String)>,
    /// No way out of it
    #[arg(long)]
    internal: bool,
    /// Single containers may join
    #[arg(long)]
    attachable: bool,
    /// Give it IPv6 addresses too
    #[arg(long)]
    ipv6: bool,
    /// Option of the driver
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = parse_pair)]
    opt: Vec<(String, String)>,
    /// Label
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_label)]
    label: Vec<(String, String)>,
    #[arg(long, hide = true, value_parser = NotYet, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    ingress: Option<Never>,
    #[arg(long, hide = true, value_parser = NotYet, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    config_only: Option<Never>,
    #[arg(long, hide = true, value_parser = NotYet)]
    config_from: Option<Never>,
    #[arg(long, hide = true, value_parser = NotYet)]
    ipam_driver: Option<Never>,
    #[arg(long, hide = true, value_parser = NotYet)]
    ipam_opt: Option<Never>,
    #[arg(long, hide = true, value_parser = NotYet)]
    scope: Option<Never>,
}

/// Creates the network.
pub async fn run(args: CreateArgs, context: &Context) -> Outcome {
    let spec = spec(args)?;
    let client = context.connect().await?;
    let request = pb::NetworkCreateRequest { spec: Some((&spec).into()) };
    let what = format!("cannot create network {}", spec.name);
    let network = client.control().network_create(request).await.map_err(|status| refused(&what, &status))?;
    terminal::print_line(network.into_inner().id)?;
    Ok(0)
}

fn spec(args: CreateArgs) -> Result<NetworkSpec, Failure> {
    let mut ipam: Vec<IpamPool> = args
        .subnet
        .into_iter()
        .map(|subnet| IpamPool { subnet, ip_range: None, gateway: None, aux_addresses: Default::default() })
        .collect();
    fn pool(ipam: &mut [IpamPool], address: IpAddr) -> Result<&mut IpamPool, Failure> {
        let pool = ipam.iter_mut().find(|pool| pool.subnet.contains(&address));
        pool.ok_or_else(|| Failure::usage(format!("{address} lies in none of the subnets; name one with --subnet")))
    }
    for gateway in args.gateway {
        pool(&mut ipam, gateway)?.gateway = Some(gateway);
    }
    for range in args.ip_range {
        pool(&mut ipam, range.addr())?.ip_range = Some(range);
    }
    for (name, text) in args.aux_address {
        let address: IpAddr =
            text.parse().map_err(|_| Failure::usage(format!("--aux-address {name}: {text:?} is not an address")))?;
        pool(&mut ipam, address)?.aux_addresses.insert(name, address);
    }
    Ok(NetworkSpec {
        name: args.name,
        stack: None,
        labels: args.label.into_iter().collect(),
        driver: args.driver,
        options: args.opt.into_iter().collect(),
        internal: args.internal,
        attachable: args.attachable,
        ipv6: args.ipv6,
        ipam,
    })
}
