//! Who is next for a device. Requests and the time go in, tickets whose turn has come go out. Pure: no clock, no lock.
//!
//! Within a priority this is fair queueing by time held: start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996) over
//! several servers (SFQ(D): Jin, Chase and Kaur, SIGMETRICS 2004), with the bookkeeping of stride scheduling (Waldspurger
//! and Weihl, MIT/LCS/TM-528, 1995): each client has a *pass*, its time held over its weight, and the least pass goes first.
//! What a job will take is not known when it begins, so a client is charged while it holds, not in advance. A client that
//! comes, or comes back, starts at the virtual time of its priority: the least pass among those that are there.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::time::Duration;

use super::{Demand, Standing};
use crate::device::Place;
use crate::event::Role;

/// A search, in the order in which they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ClientId(u64);

/// A request, waiting or granted, in the order in which they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

/// The queue with all who wait and all who hold.
#[derive(Debug)]
pub(super) struct FairQueue {
    /// Of each place and role.
    slots: NonZeroU32,
    /// Bytes, where they are limited.
    memory: BTreeMap<Place, u64>,
    clients: BTreeMap<ClientId, Client>,
    waiting: BTreeMap<Ticket, Request>,
    held: BTreeMap<Ticket, Request>,
    /// By priority; never goes back.
    virtual_time: BTreeMap<i32, f64>,
    /// Up to when everything held is charged.
    now: Duration,
    made: u64,
}

#[derive(Debug)]
struct Client {
    weight: NonZeroU32,
    priority: i32,
    /// Seconds held over weight; lifted to the virtual time when it comes back.
    pass: f64,
    used: Duration,
    paused: bool,
}

#[derive(Debug)]
struct Request {
    client: ClientId,
    demand: Demand,
}

impl FairQueue {
    pub(super) fn new(slots: NonZeroU32) -> Self {
        Self {
            slots,
            memory: BTreeMap::new(),
            clients: BTreeMap::new(),
            waiting: BTreeMap::new(),
            held: BTreeMap::new(),
            virtual_time: BTreeMap::new(),
            now: Duration::ZERO,
            made: 0,
        }
    }

    pub(super) fn set_slots(&mut self, slots: NonZeroU32) {
        self.slots = slots;
    }

    pub(super) fn set_memory(&mut self, place: Place, bytes: u64) {
        self.memory.insert(place, bytes);
    }

    pub(super) fn grant_memory(&mut self, place: Place, bytes: u64) {
        let granted = self.memory.entry(place).or_insert(bytes);
        *granted = bytes.max(*granted);
    }

    fn number(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    pub(super) fn join(&mut self, weight: NonZeroU32, priority: i32) -> ClientId {
        let id = ClientId(self.number());
        self.clients.insert(id, Client { weight, priority, pass: 0.0, used: Duration::ZERO, paused: false });
        id
    }

    pub(super) fn leave(&mut self, client: ClientId) {
        self.clients.remove(&client);
        for requests in [&mut self.waiting, &mut self.held] {
            requests.retain(|_, request| request.client != client);
        }
    }

    /// Puts a request at its place in the queue.
    pub(super) fn ask(&mut self, client: ClientId, demand: Demand, now: Duration) -> Ticket {
        self.settle(now);
        if !self.competes(client) {
            self.lift(client);
        }
        let ticket = Ticket(self.number());
        self.waiting.insert(ticket, Request { client, demand });
        ticket
    }

    /// Changes the memory that a request, or what holds, is expected to take.
    pub(super) fn expect(&mut self, ticket: Ticket, memory: Option<u64>) {
        if let Some(request) = self.waiting.get_mut(&ticket).or_else(|| self.held.get_mut(&ticket)) {
            request.demand.memory = memory;
        }
    }

    /// Takes a request back, or gives a slot back. Nothing where the ticket is gone already.
    pub(super) fn give_up(&mut self, ticket: Ticket, now: Duration) {
        self.settle(now);
        self.waiting.remove(&ticket);
        self.held.remove(&ticket);
    }

    pub(super) fn set(&mut self, client: ClientId, weight: NonZeroU32, priority: i32, now: Duration) {
        self.settle(now);
        let Some(client_now) = self.clients.get_mut(&client) else { return };
        client_now.weight = weight;
        if client_now.priority != priority {
            client_now.priority = priority;
            // Among others it begins level with them, whatever it used or lacked where it was.
            client_now.pass = self.virtual_time.get(&priority).copied().unwrap_or_default();
        }
    }

    pub(super) fn pause(&mut self, client: ClientId, paused: bool, now: Duration) {
        self.settle(now);
        let competed = self.competes(client);
        if let Some(client) = self.clients.get_mut(&client) {
            client.paused = paused;
        }
        if !competed && self.competes(client) {
            self.lift(client);
        }
    }

    /// The tickets whose turn has come; they hold their slots from now on.
    ///
    /// A request that is ahead but does not fit yet keeps the places that it needs free of those behind it, so that one for
    /// several places, or for a place alone, is not overtaken for ever.
    pub(super) fn dispatch(&mut self) -> Vec<Ticket> {
        let mut order: Vec<(Turn, Ticket)> =
            self.waiting.iter().filter_map(|(ticket, request)| Some((self.turn(request)?, *ticket))).collect();
        order.sort_by(|(one, first), (other, second)| one.cmp(other).then(first.cmp(second)));
        let mut kept: BTreeSet<(Place, Role)> = BTreeSet::new();
        let mut granted = Vec::new();
        for (_, ticket) in order {
            let Some(request) = self.waiting.remove(&ticket) else { continue };
            let lanes = lanes(&request.demand);
            if self.fits(&request.demand) && !lanes.iter().any(|lane| kept.contains(lane)) {
                self.held.insert(ticket, request);
                granted.push(ticket);
            } else {
                kept.extend(lanes);
                self.waiting.insert(ticket, request);
            }
        }
        granted
    }

    /// Whether the slot would come back to its holder if it were given back now and its holder asked again.
    pub(super) fn is_next(&mut self, ticket: Ticket, now: Duration) -> bool {
        self.settle(now);
        let Some(held) = self.held.get(&ticket) else { return false };
        let Some(mine) = self.turn(held) else { return false };
        let places = &held.demand.places;
        let rivals = self.waiting.values().filter(|request| request.demand.places.iter().any(|at| places.contains(at)));
        !rivals.filter_map(|request| self.turn(request)).any(|turn| turn <= mine)
    }

    pub(super) fn standings(&mut self, now: Duration) -> Vec<Standing> {
        self.settle(now);
        let clients: Vec<ClientId> = self.clients.keys().copied().collect();
        clients.into_iter().map(|client| self.standing(client, now)).collect()
    }

    pub(super) fn standing(&mut self, client: ClientId, now: Duration) -> Standing {
        self.settle(now);
        let count =
            |requests: &BTreeMap<Ticket, Request>| requests.values().filter(|request| request.client == client).count();
        let (holding, waiting) = (count(&self.held), count(&self.waiting));
        match self.clients.get(&client) {
            Some(Client { weight, priority, used, .. }) => {
                Standing { weight: *weight, priority: *priority, used: *used, holding, waiting }
            }
            None => Standing { weight: NonZeroU32::MIN, priority: 0, used: Duration::ZERO, holding, waiting },
        }
    }

    /// Charges everything held up to `now`.
    fn settle(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.now);
        self.now = self.now.max(now);
        for request in self.held.values() {
            let Some(client) = self.clients.get_mut(&request.client) else { continue };
            let time = passed * u32::try_from(request.demand.places.len()).unwrap_or(u32::MAX);
            client.used += time;
            client.pass += time.as_secs_f64() / f64::from(client.weight.get());
        }
        let mut least: BTreeMap<i32, f64> = BTreeMap::new();
        for (_, client) in self.clients.iter().filter(|(id, _)| self.competes(**id)) {
            let pass = least.entry(client.priority).or_insert(f64::INFINITY);
            *pass = pass.min(client.pass);
        }
        for (priority, pass) in least {
            let time = self.virtual_time.entry(priority).or_default();
            *time = time.max(pass);
        }
    }

    /// Whether the client takes part: it holds something, or waits and is not paused.
    fn competes(&self, id: ClientId) -> bool {
        let of_client = |request: &Request| request.client == id;
        self.held.values().any(of_client)
            || self.clients.get(&id).is_some_and(|client| !client.paused) && self.waiting.values().any(of_client)
    }

    /// Nobody brings saved-up time along.
    fn lift(&mut self, client: ClientId) {
        let Some(client) = self.clients.get_mut(&client) else { return };
        client.pass = client.pass.max(self.virtual_time.get(&client.priority).copied().unwrap_or_default());
    }

    /// When a request's turn is; `None` while its client is paused.
    fn turn(&self, request: &Request) -> Option<Turn> {
        self.clients.get(&request.client).filter(|client| !client.paused).map(Turn::of)
    }

    /// Whether there is room for it now.
    fn fits(&self, demand: &Demand) -> bool {
        demand.places.iter().all(|place| {
            let there = || self.held.values().map(|request| &request.demand).filter(|held| held.places.contains(place));
            let in_role = there().filter(|held| held.role == demand.role).count();
            if in_role >= self.slots.get() as usize || there().any(|held| held.alone) {
                return false;
            }
            let mut others = there().peekable();
            if others.peek().is_none() {
                return true; // Whoever fits nowhere else must run somewhere.
            }
            let limit = self.memory.get(place);
            let within = |limit: u64| {
                let taken = others.fold(0_u64, |sum, held| sum.saturating_add(expected(held, limit)));
                taken.saturating_add(expected(demand, limit)) <= limit
            };
            !demand.alone && limit.is_none_or(|limit| within(*limit))
        })
    }
}

/// The memory to set aside for it. A training of which nothing is known yet might take all there is.
fn expected(demand: &Demand, limit: u64) -> u64 {
    demand.memory.unwrap_or(match demand.role {
        Role::Train => limit,
        Role::Evaluate => 0,
    })
}

/// Where a client stands in the queue; the least goes first.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Turn {
    priority: Reverse<i32>,
    pass: f64,
}

impl Turn {
    fn of(client: &Client) -> Self {
        Self { priority: Reverse(client.priority), pass: client.pass }
    }

    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.priority.cmp(&other.priority).then(self.pass.total_cmp(&other.pass))
    }
}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// What a demand takes, or keeps free while it waits: alone, it is both roles' slots.
fn lanes(demand: &Demand) -> Vec<(Place, Role)> {
    let roles: &[Role] = if demand.alone { &[Role::Train, Role::Evaluate] } else { &[demand.role] };
    demand.places.iter().flat_map(|place| roles.iter().map(|role| (place.clone(), *role))).collect()
}

#[cfg(test)]
mod tests;
