//! How few nodes would do: the bound of the linear program, and the textbook heuristics with full knowledge, each as a
//! plain scan over all nodes. What the scheduler does is measured against these.

use berth_proto::object::Node;
use berth_scheduler::TaskGroup;

/// Cpu and memory, as shares of all there is.
type Pair = (f64, f64);

/// In which order tasks are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Shuffled, task by task.
    Shuffled,
    /// Largest dominant share first.
    Dominant,
    /// Largest sum of shares first.
    Sum,
}

/// Which of the used nodes with room is taken. A node that is not used yet is begun when none has room, the largest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// The first.
    First,
    /// The one whose scarcest resource is fullest afterwards.
    Dominant,
    /// The one whose room points most into the direction of what is asked.
    Dot,
    /// The one with the smallest remainder in the square norm.
    Norm,
}

struct Bin {
    has: Pair,
    left: Pair,
}

/// The least number of nodes by the relaxed problem: for each weighing of cpu against memory, so many of the largest
/// nodes are needed; the best weighing is the dual solution.
pub fn bound(nodes: &[Node], groups: &[TaskGroup]) -> f64 {
    let (bins, _) = problem(nodes, groups);
    let total = tasks(nodes, groups).iter().fold((0.0, 0.0), |sum, (c, m)| (sum.0 + c, sum.1 + m));
    let weigh = |weight: f64| {
        let mut sizes: Vec<f64> =
            bins.iter().map(|bin| weight * bin.has.0 / total.0 + (1.0 - weight) * bin.has.1 / total.1).collect();
        sizes.sort_by(|a, b| b.total_cmp(a));
        let (mut need, mut count) = (1.0, 0.0);
        for size in sizes {
            if size >= need {
                return count + need / size;
            }
            need -= size;
            count += 1.0;
        }
        count
    };
    (0..=100).map(|step| weigh(f64::from(step) / 100.0)).fold(0.0, f64::max)
}

/// Nodes used by a heuristic, and tasks for which it found no place.
pub fn pack(nodes: &[Node], groups: &[TaskGroup], order: Order, fit: Fit) -> (usize, usize) {
    let (mut bins, mut tasks) = problem(nodes, groups);
    match order {
        Order::Shuffled => super::workload::Random(5).shuffle(&mut tasks),
        Order::Dominant => tasks.sort_by(|a, b| b.0.max(b.1).total_cmp(&a.0.max(a.1))),
        Order::Sum => tasks.sort_by(|a, b| (b.0 + b.1).total_cmp(&(a.0 + a.1))),
    }
    let (mut used, mut homeless) = (0, 0);
    for task in tasks {
        let fits = |bin: &Bin| bin.left.0 >= task.0 && bin.left.1 >= task.1;
        let open = bins[..used].iter().enumerate().filter(|(_, bin)| fits(bin));
        let best = match fit {
            Fit::First => open.map(|(at, _)| at).next(),
            _ => open.min_by(|(_, a), (_, b)| cost(fit, a, task).total_cmp(&cost(fit, b, task))).map(|(at, _)| at),
        };
        let at = match best {
            Some(at) => at,
            None => match bins[used..].iter().position(fits) {
                Some(new) => {
                    bins.swap(used, used + new);
                    used += 1;
                    used - 1
                }
                None => {
                    homeless += 1;
                    continue;
                }
            },
        };
        bins[at].left.0 -= task.0;
        bins[at].left.1 -= task.1;
    }
    (used, homeless)
}

fn cost(fit: Fit, bin: &Bin, task: Pair) -> f64 {
    let asked = (task.0 / bin.has.0, task.1 / bin.has.1);
    let left = (bin.left.0 / bin.has.0, bin.left.1 / bin.has.1);
    match fit {
        Fit::First => 0.0,
        Fit::Dominant => (left.0 - asked.0).min(left.1 - asked.1),
        Fit::Dot => -(asked.0 * left.0 + asked.1 * left.1),
        Fit::Norm => (left.0 - asked.0).powi(2) + (left.1 - asked.1).powi(2),
    }
}

fn problem(nodes: &[Node], groups: &[TaskGroup]) -> (Vec<Bin>, Vec<Pair>) {
    let all = total(nodes);
    let resources = nodes.iter().filter_map(|node| node.description.as_ref()).map(|known| &known.resources);
    let bin = |has: Pair| Bin { has, left: (has.0 + 1e-12, has.1 + 1e-12) };
    let mut bins: Vec<Bin> =
        resources.map(|has| bin((has.nano_cpus as f64 / all.0, has.memory as f64 / all.1))).collect();
    bins.sort_by(|a, b| (b.has.0 + b.has.1).total_cmp(&(a.has.0 + a.has.1)));
    (bins, tasks(nodes, groups))
}

fn tasks(nodes: &[Node], groups: &[TaskGroup]) -> Vec<Pair> {
    let all = total(nodes);
    let each = groups.iter().flat_map(|group| {
        let asked = (group.demand.nano_cpus as f64 / all.0, group.demand.memory as f64 / all.1);
        std::iter::repeat_n(asked, group.tasks.len())
    });
    each.collect()
}

fn total(nodes: &[Node]) -> Pair {
    let resources = nodes.iter().filter_map(|node| node.description.as_ref()).map(|known| &known.resources);
    resources.fold((0.0, 0.0), |(c, m), has| (c + has.nano_cpus as f64, m + has.memory as f64))
}
