//! Networks keep away from what the machine has routes to.

use berth_tests::{Host, wait_until};

fn subnets(host: &Host, network: &str) -> Vec<String> {
    let look = || -> Vec<String> {
        let rows = host.berth(&["network", "ls", "--format", "json"]).json();
        let row = rows.as_array().into_iter().flatten().find(|row| row["name"] == network);
        let all = row.and_then(|row| row["subnets"].as_array()).into_iter().flatten();
        all.filter_map(|one| one.as_str().map(str::to_owned)).collect()
    };
    wait_until("the subnets of the network", look, |found| !found.is_empty())
}

#[test]
fn networks_are_given_no_subnet_that_the_machine_has_a_route_to() {
    let mut host = Host::without_daemon("subnets");
    // A VPN that has the ranges which would be given out first.
    let vpn = "ip link add vpn0 type bridge && ip link set vpn0 up \
               && ip route add 10.128.0.0/16 dev vpn0 && ip route add 10.129.0.0/16 dev vpn0 table 52";
    host.run("sh", &["-ec", vpn]).ok();
    host.start_daemon();
    assert_eq!(subnets(&host, "bridge"), ["10.130.0.0/16"]);
    host.berth(&["network", "create", "own"]).ok();
    assert_eq!(subnets(&host, "own"), ["10.132.0.0/16"]);
    let refused = host.berth(&["network", "create", "--opt", "com.docker.network.bridge.name=br0", "named"]).fails(1);
    assert!(refused.contains("com.docker.network.bridge.name") && refused.contains("has no effect"), "{refused}");
}
