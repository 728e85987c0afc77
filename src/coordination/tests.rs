//! Three replicas that tell each other what they report, without a network.

use super::*;
use crate::demand::RouteCounters;
use crate::workload::WorkloadKind;

/// Replicas that are listed, each at an address of its own.
struct Replicas {
    all: Vec<Replica>,
}

struct Replica {
    address: SocketAddr,
    coordination: Coordination,
    route: Arc<RouteCounters>,
    membership: Membership,
}

fn id() -> WorkloadId {
    WorkloadId { kind: WorkloadKind::Deployment, namespace: "a".into(), name: "web".into() }
}

impl Replicas {
    fn new(count: u8) -> Self {
        let address = |number: u8| SocketAddr::from(([10, 0, 0, number], 9091));
        let listed: BTreeSet<_> = (1..=count).map(address).collect();
        let replica = |number| {
            let coordination = Coordination::default();
            coordination.begin_exchange();
            coordination.set_listed(listed.clone());
            coordination.note_own(address(number));
            let (route, demand) =
                (Arc::new(RouteCounters::new(1)), Arc::<WorkloadDemand>::default());
            demand.set_routes(vec![route.clone()]);
            let membership = coordination.join(Arc::new(id()), demand);
            Replica { address: address(number), coordination, route, membership }
        };
        Self { all: (1..=count).map(replica).collect() }
    }

    /// Every replica tells every other what it reports.
    fn exchange(&self) {
        for from in 0..self.all.len() {
            for to in 0..self.all.len() {
                self.tell(from, to);
            }
        }
    }

    fn tell(&self, from: usize, to: usize) {
        if from != to {
            let reports = self.all[from].coordination.reports();
            let reports = reports.into_iter().map(|(id, report)| ((*id).clone(), report)).collect();
            self.all[to].coordination.apply(self.all[from].address, true, reports);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_knows_the_sum_of_the_others_and_forgets_those_that_are_gone() {
    let replicas = Replicas::new(3);
    let first = &replicas.all[0];
    assert!(!first.coordination.are_peers_known(), "nothing was heard yet");
    for other in &replicas.all[1..] {
        other.route.core(0).count_arrival(Instant::now());
    }
    replicas.exchange();
    assert!(first.coordination.are_peers_known());
    let view = first.membership.view();
    assert_eq!((view.arrivals, view.in_flight), (2, 2));
    let gone = replicas.all[2].address;
    first.coordination.note_disconnected(gone);
    assert!(!first.coordination.are_peers_known(), "silence is not idleness");
    assert_eq!(first.membership.view().in_flight, 2);
    let left = replicas.all[..2].iter().map(|replica| replica.address).collect();
    first.coordination.set_listed(left);
    assert!(first.coordination.are_peers_known());
    assert_eq!(first.membership.view().in_flight, 1);
    replicas.tell(2, 0);
    assert_eq!(first.membership.view().in_flight, 1, "it is not listed any more");
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_is_silent_is_unknown_although_it_is_connected() {
    let replicas = Replicas::new(2);
    replicas.exchange();
    assert!(replicas.all[0].coordination.are_peers_known());
    tokio::time::advance(FRESH_FOR).await;
    assert!(!replicas.all[0].coordination.are_peers_known());
    replicas.all[0].coordination.apply(replicas.all[1].address, false, Vec::new());
    assert!(replicas.all[0].coordination.are_peers_known());
}

#[tokio::test(start_paused = true)]
async fn all_have_agreed_when_each_has_withdrawn_its_endpoints() {
    let replicas = Replicas::new(3);
    replicas.exchange();
    let [leader, second, third] = &replicas.all[..] else { unreachable!() };
    let announced = leader.membership.announce();
    replicas.exchange();
    for (other, agreed) in [(second, None), (third, announced)] {
        let announcements = other.membership.view().announcements;
        let ids: Vec<u64> = announcements.iter().map(|announcement| announcement.id).collect();
        assert_eq!(Some(ids[0]), announced);
        other.membership.acknowledge(ids);
        replicas.exchange();
        assert_eq!(leader.membership.view().agreed, agreed);
    }
    leader.membership.note_done();
    replicas.exchange();
    assert!(second.membership.view().announcements[0].is_done);
    leader.membership.retract();
    replicas.exchange();
    assert_eq!(second.membership.view().announcements, []);
    // What was agreed once does not count for the next time.
    leader.membership.announce();
    replicas.exchange();
    assert_eq!(leader.membership.view().agreed, None);
}

#[tokio::test(start_paused = true)]
async fn the_announcement_of_a_replica_that_disconnects_is_void() {
    let replicas = Replicas::new(2);
    replicas.exchange();
    replicas.all[0].membership.announce();
    replicas.exchange();
    assert_eq!(replicas.all[1].membership.view().announcements.len(), 1);
    replicas.all[1].coordination.note_disconnected(replicas.all[0].address);
    assert_eq!(replicas.all[1].membership.view().announcements, []);
}

#[tokio::test(start_paused = true)]
async fn a_replica_alone_knows_everything_and_one_beside_others_without_an_exchange_does_not() {
    let alone = Coordination::default();
    assert!(alone.are_peers_known() && alone.is_leader());
    let addresses = ["10.0.0.1:1", "10.0.0.2:1"].map(|address| address.parse().unwrap());
    alone.set_listed(addresses[..1].iter().copied().collect());
    assert!(alone.are_peers_known());
    alone.set_listed(addresses.into_iter().collect());
    assert!(!alone.are_peers_known());
    let membership = Membership::alone();
    assert!(membership.is_leader() && membership.are_peers_known());
    assert_eq!(membership.announce(), None);
}
