//! SRV records (RFC 2782): the question, what stands in the answer, and in which order servers are tried. Pure.

use std::net::IpAddr;

use domain::{
    base::{Message, MessageBuilder, Name, ParsedName, Rtype, iana::Rcode, wire::ParseError},
    rdata::{A, Aaaa, Srv},
};

/// Records that are taken of one answer.
const RECORDS_MAX: usize = 64;

/// One server that a service names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// The least is tried first.
    pub priority: u16,
    /// Share among those of the same priority.
    pub weight: u16,
    pub port: u16,
    pub host: String,
    /// As the nameserver sent them along; maybe none.
    pub addresses: Vec<IpAddr>,
}

/// Asks for a service's records.
pub(super) fn question(service: &str, id: u16) -> Result<Message<Vec<u8>>, String> {
    let name = Name::<Vec<u8>>::vec_from_str(service).map_err(|e| format!("{service} is no name of DNS: {e}"))?;
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(id);
    builder.header_mut().set_rd(true);
    let mut builder = builder.question();
    builder.push((name, Rtype::SRV)).map_err(|e| format!("{service} is no name of DNS: {e}"))?;
    Ok(builder.into_message())
}

/// The servers that `answer` names, one at least; else why there is none.
pub(super) fn read(service: &str, answer: &Message<Vec<u8>>) -> Result<Vec<Target>, String> {
    if answer.header().rcode() == Rcode::NXDOMAIN {
        return Err(format!("no SRV record for {service}: there is no such name in DNS"));
    }
    let targets = targets(answer).map_err(|e| format!("the nameserver's answer about {service} is damaged: {e}"))?;
    let none = if targets.is_empty() {
        format!("no SRV record for {service}: its name is there, without one")
    } else {
        // RFC 2782: a target of "." means that the service is decidedly not available there.
        format!("{service} is not offered: the target of its SRV record is \".\"")
    };
    let named: Vec<Target> = targets.into_iter().filter(|target| !target.host.is_empty()).collect();
    if named.is_empty() { Err(none) } else { Ok(named) }
}

/// All targets, the root as an empty host.
fn targets(answer: &Message<Vec<u8>>) -> Result<Vec<Target>, ParseError> {
    let service = answer.canonical_name().ok_or(ParseError::form_error("aliases in a circle"))?;
    let mut targets = Vec::new();
    for record in answer.answer()?.limit_to_in::<Srv<ParsedName<_>>>() {
        let record = record?;
        if *record.owner() != service || targets.len() == RECORDS_MAX {
            continue;
        }
        let (srv, addresses) = (record.data(), Vec::new());
        let host = if srv.target().is_root() { String::new() } else { srv.target().to_string() };
        targets.push(Target { priority: srv.priority(), weight: srv.weight(), port: srv.port(), host, addresses });
    }
    let mut found = |owner: String, ip: IpAddr| {
        let theirs = targets.iter_mut().filter(|target| target.host.eq_ignore_ascii_case(&owner));
        theirs.for_each(|target| target.addresses.push(ip));
    };
    let additional = answer.additional()?;
    for record in additional.limit_to_in::<A>() {
        let record = record?;
        found(record.owner().to_string(), record.data().addr().into());
    }
    for record in additional.limit_to_in::<Aaaa>() {
        let record = record?;
        found(record.owner().to_string(), record.data().addr().into());
    }
    Ok(targets)
}

/// As they are to be tried: by priority, and by chance among equals, the heavier the sooner (RFC 2782's procedure). `below` gives
/// a random number less than the one that it is given.
pub(super) fn order(mut targets: Vec<Target>, mut below: impl FnMut(u64) -> u64) -> Vec<Target> {
    // "In any order": those without weights are otherwise taken as the nameserver lists them, by all in the same way.
    targets.sort_by_cached_key(|target| (target.priority, target.weight != 0, below(u64::MAX)));
    let mut ordered = Vec::with_capacity(targets.len());
    while let Some(priority) = targets.first().map(|target| target.priority) {
        let equals = targets.iter().take_while(|target| target.priority == priority);
        let sum: u64 = equals.map(|target| u64::from(target.weight)).sum();
        let (chosen, mut running) = (below(sum + 1), 0);
        let reaches = |target: &Target| {
            running += u64::from(target.weight);
            running >= chosen
        };
        // The last of the equals reaches the sum.
        let at = targets.iter().position(reaches).unwrap_or_default();
        ordered.push(targets.remove(at));
    }
    ordered
}
