//! Unit and property tests of who is next.

#![expect(clippy::cast_precision_loss, reason = "small numbers")]

use proptest::prelude::*;

use super::*;

fn weight(weight: u32) -> NonZeroU32 {
    NonZeroU32::new(weight).unwrap()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn on(places: &[u32]) -> Demand {
    let places = places.iter().map(|index| Place::Simulated { index: *index }).collect();
    Demand { places, role: Role::Train, alone: false, memory: None }
}

/// Clients that always have more to do, on some devices, in the queue's own time.
struct Crowd {
    queue: FairQueue,
    now: Duration,
    /// When a held ticket ends, whose it is and on which device.
    running: BTreeMap<(Duration, Ticket), (ClientId, u32)>,
    waiting: BTreeMap<Ticket, (ClientId, u32)>,
    /// How long the next jobs take, over and over.
    durations: Vec<u64>,
    begun: usize,
}

impl Crowd {
    fn new(durations: Vec<u64>) -> Self {
        let queue = FairQueue::new(NonZeroU32::MIN);
        Self { queue, now: Duration::ZERO, running: BTreeMap::new(), waiting: BTreeMap::new(), durations, begun: 0 }
    }

    /// A client with a worker on each of `devices` devices.
    fn add(&mut self, devices: u32, weight_of: u32, priority: i32) -> ClientId {
        let client = self.queue.join(weight(weight_of), priority);
        for device in 0..devices {
            let ticket = self.queue.ask(client, on(&[device]), self.now);
            self.waiting.insert(ticket, (client, device));
        }
        self.begin();
        client
    }

    fn begin(&mut self) {
        for ticket in self.queue.dispatch() {
            let place = self.waiting.remove(&ticket).unwrap();
            let duration = self.durations[self.begun % self.durations.len()];
            self.begun += 1;
            self.running.insert((self.now + seconds(duration), ticket), place);
        }
    }

    /// The next job ends, and its worker asks for another.
    fn step(&mut self) {
        let ((end, ticket), (client, device)) = self.running.pop_first().unwrap();
        self.now = end;
        let next = self.queue.ask(client, on(&[device]), self.now);
        self.queue.give_up(ticket, self.now);
        self.waiting.insert(next, (client, device));
        self.begin();
    }

    fn used(&mut self, client: ClientId) -> f64 {
        self.queue.standing(client, self.now).used.as_secs_f64()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// The bound of SFQ(D): what two clients that always wait got for their weights never differs by more than `D + 1` of
    /// their longest jobs.
    #[test]
    fn shares_converge_to_weights(
        weights in prop::collection::vec(1_u32..8, 2..5),
        durations in prop::collection::vec(1_u64..100, 1..40),
        devices in 1_u32..4,
        steps in 1_usize..300,
    ) {
        let longest = *durations.iter().max().unwrap() as f64;
        let mut crowd = Crowd::new(durations);
        let clients: Vec<(ClientId, f64)> =
            weights.iter().map(|weight| (crowd.add(devices, *weight, 0), f64::from(*weight))).collect();
        for _ in 0..steps {
            crowd.step();
            prop_assert_eq!(crowd.running.len(), devices as usize, "no device idles while someone waits");
            for (one, one_weight) in clients.clone() {
                for (other, other_weight) in clients.clone() {
                    let gap = crowd.used(one) / one_weight - crowd.used(other) / other_weight;
                    let bound = f64::from(devices + 1) * (longest / one_weight + longest / other_weight);
                    prop_assert!(gap <= bound, "{gap} > {bound}");
                }
            }
        }
    }

    /// From its arrival on it gets its share, and nothing for the time before.
    #[test]
    fn a_client_that_comes_late_does_not_get_the_past(
        durations in prop::collection::vec(1_u64..50, 1..20),
        devices in 1_u32..4,
        before in 1_usize..100,
        after in 1_usize..200,
        comes_back in any::<bool>(),
    ) {
        let longest = *durations.iter().max().unwrap() as f64;
        let mut crowd = Crowd::new(durations);
        let early = crowd.add(devices, 1, 0);
        let absent = crowd.queue.join(weight(1), 0);
        for _ in 0..before {
            crowd.step();
        }
        let (late, begun) = (crowd.add(devices, 1, 0), crowd.used(early));
        let late = if comes_back {
            crowd.queue.leave(late);
            crowd.waiting.retain(|_, (client, _)| *client != late);
            for device in 0..devices {
                let ticket = crowd.queue.ask(absent, on(&[device]), crowd.now);
                crowd.waiting.insert(ticket, (absent, device));
            }
            absent
        } else {
            late
        };
        for _ in 0..after {
            crowd.step();
            let bound = f64::from(devices + 1) * 2.0 * longest;
            let (of_late, of_early) = (crowd.used(late), crowd.used(early) - begun);
            prop_assert!((of_late - of_early).abs() <= bound, "late {of_late}, early {of_early}");
        }
    }

    /// Of those that wait, nobody is passed over for ever, however heavy the others are: with every grant someone's pass
    /// grows.
    #[test]
    fn nobody_starves_within_a_priority(heavy in 1_u32..1_000, others in 1_usize..6, duration in 1_u64..20) {
        let mut crowd = Crowd::new(vec![duration]);
        let light = crowd.add(1, 1, 0);
        let heavies: Vec<ClientId> = (0..others).map(|_| crowd.add(1, heavy, 0)).collect();
        let turns = 2 * (others as u64 * u64::from(heavy) + 1);
        for _ in 0..turns {
            crowd.step();
        }
        prop_assert!(crowd.used(light) >= duration as f64 * 2.0);
        for client in heavies {
            prop_assert!(crowd.used(client) >= duration as f64);
        }
    }
}

#[test]
fn a_higher_priority_goes_first_until_it_has_enough() {
    let mut crowd = Crowd::new(vec![10]);
    let low = crowd.add(1, 100, 0);
    let high = crowd.add(1, 1, 1);
    for _ in 0..50 {
        crowd.step();
    }
    assert_eq!((crowd.used(low), crowd.used(high)), (10.0, 490.0));
    crowd.queue.pause(high, true, crowd.now);
    for _ in 0..3 {
        crowd.step();
    }
    // What runs is not interrupted; then nobody else is there.
    assert_eq!((crowd.used(low), crowd.used(high)), (30.0, 500.0));
}

#[test]
fn who_was_paused_comes_back_level() {
    let mut crowd = Crowd::new(vec![1]);
    let (one, other) = (crowd.add(1, 1, 0), crowd.add(1, 1, 0));
    crowd.queue.pause(other, true, Duration::ZERO);
    for _ in 0..100 {
        crowd.step();
    }
    assert_eq!((crowd.used(one), crowd.used(other)), (100.0, 0.0));
    crowd.queue.pause(other, false, crowd.now);
    for _ in 0..20 {
        crowd.step();
    }
    assert!((9.0..=11.0).contains(&crowd.used(other)), "{}", crowd.used(other));
}

#[test]
fn a_request_for_several_places_is_not_overtaken() {
    let mut queue = FairQueue::new(NonZeroU32::MIN);
    let (pair, single) = (queue.join(weight(1), 0), queue.join(weight(1), 0));
    let zero = queue.ask(single, on(&[0]), seconds(0));
    assert_eq!(queue.dispatch(), [zero]);
    // The single one has used 5 s when the pair asks: the pair goes first, and waits for place 0.
    let both = queue.ask(pair, on(&[0, 1]), seconds(5));
    let one = queue.ask(single, on(&[1]), seconds(6));
    assert_eq!(queue.dispatch(), [], "place 1 is kept for the pair");
    queue.give_up(zero, seconds(8));
    assert_eq!(queue.dispatch(), [both]);
    queue.give_up(both, seconds(10));
    assert_eq!(queue.dispatch(), [one]);
    assert_eq!(queue.standing(pair, seconds(10)).used, seconds(4), "two places for two seconds");
}

#[test]
fn an_attempt_that_must_be_alone_waits_for_an_empty_place_and_keeps_it() {
    let mut queue = FairQueue::new(weight(3));
    let client = queue.join(weight(1), 0);
    let evaluation = Demand { role: Role::Evaluate, ..on(&[0]) };
    let first = queue.ask(client, on(&[0]), seconds(0));
    let beside = queue.ask(client, evaluation.clone(), seconds(0));
    assert_eq!(queue.dispatch(), [first, beside]);
    let alone = queue.ask(client, Demand { alone: true, ..on(&[0]) }, seconds(1));
    let (after, evaluated) = (queue.ask(client, on(&[0]), seconds(2)), queue.ask(client, evaluation, seconds(2)));
    assert_eq!(queue.dispatch(), []);
    queue.give_up(first, seconds(3));
    assert_eq!(queue.dispatch(), [], "the evaluation is still there");
    queue.give_up(beside, seconds(4));
    assert_eq!(queue.dispatch(), [alone]);
    queue.give_up(alone, seconds(5));
    assert_eq!(queue.dispatch(), [after, evaluated]);
}

#[test]
fn trials_share_a_place_as_far_as_their_memory_fits() {
    let mut queue = FairQueue::new(weight(4));
    queue.set_memory(Place::Simulated { index: 0 }, 1_000);
    let client = queue.join(weight(1), 0);
    let ask = |queue: &mut FairQueue, memory| queue.ask(client, Demand { memory, ..on(&[0]) }, seconds(0));
    let huge = ask(&mut queue, Some(5_000));
    assert_eq!(queue.dispatch(), [huge], "alone, the largest is let in: where else should it run");
    let [half, most, small, unknown] = [Some(500), Some(600), Some(400), None].map(|memory| ask(&mut queue, memory));
    assert_eq!(queue.dispatch(), []);
    queue.give_up(huge, seconds(1));
    assert_eq!(queue.dispatch(), [half], "600 more do not fit, and the one behind does not overtake");
    queue.give_up(half, seconds(2));
    assert_eq!(queue.dispatch(), [most, small]);
    queue.give_up(most, seconds(3));
    assert_eq!(queue.dispatch(), [], "what is not known might take all there is");
    queue.give_up(small, seconds(4));
    assert_eq!(queue.dispatch(), [unknown]);
}

#[test]
fn a_slot_is_kept_for_its_holder_only_while_it_is_its_turn() {
    let mut queue = FairQueue::new(NonZeroU32::MIN);
    let (heavy, light) = (queue.join(weight(3), 0), queue.join(weight(1), 0));
    let first = queue.ask(light, on(&[0]), seconds(0));
    assert_eq!(queue.dispatch(), [first]);
    assert!(queue.is_next(first, seconds(1)), "nobody else is there");
    let second = queue.ask(heavy, on(&[0]), seconds(4));
    assert!(!queue.is_next(first, seconds(10)));
    queue.give_up(first, seconds(10));
    assert_eq!(queue.dispatch(), [second]);
    let third = queue.ask(light, on(&[0]), seconds(10));
    // Both began level at 4 s: the light one then held for 6 s, the heavy one holds for 9 s, which counts as 3.
    assert!(queue.is_next(second, seconds(19)));
    assert!(!queue.is_next(second, seconds(28)));
    queue.give_up(second, seconds(28));
    assert_eq!(queue.dispatch(), [third]);
}
