//! Predicates: does this machine meet this requirement at this price, and if not, which need fails first.
//!
//! [`fit`] checks in the order of [`Unmet`] and picks the devices. Unknown fails: latency, certificates and reliability
//! have no evidence yet unless the ledger itself has it, and nothing is verified, so `VerifiedOnly` matches nothing.

use crate::{
    ids::AccountId,
    index::is_online,
    load::{Load, device_bit},
    money::meter::{device_count, storage_charge},
    params::Params,
    records::{Avoid, Machine, Provider, ProviderState},
    reject::Unmet,
    supply::provider::reliability,
    tx::{
        Claims, Device, DeviceClass, DeviceNeed, OfferTerms, Prices, Requirement, SlaClass, Tier,
    },
    units::{ByteSize, MILLIS_PER_HOUR, MilliCpu, Millis, Money, Rate},
};

/// What a job still wants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Want<'a> {
    pub(crate) needs: &'a Requirement,
    pub(crate) tier: Tier,
    pub(crate) price_cap: Option<Rate>,
    /// What its hold has left.
    pub(crate) budget: Money,
    /// What its duration has left.
    pub(crate) duration: Millis,
    pub(crate) storage_kept: ByteSize,
    pub(crate) pause_grace: Millis,
    pub(crate) avoid: &'a [Avoid],
    pub(crate) doubted_by: &'a [AccountId],
}

/// What is offered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Supply<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) load: Option<&'a Load>,
    pub(crate) provider: &'a Provider,
    pub(crate) free_bond: Money,
    pub(crate) devices: &'a [u8],
    pub(crate) prices: &'a Prices,
    /// The offer's own terms; a bid has none, it answers one order.
    pub(crate) terms: Option<&'a OfferTerms>,
}

/// What a lease would take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fit {
    pub(crate) devices: Vec<u8>,
    pub(crate) cpu: MilliCpu,
    pub(crate) memory: ByteSize,
    pub(crate) disk: ByteSize,
    pub(crate) collateral: Money,
}

/// Returns what a lease would take, or the first need that is not met.
pub(crate) fn fit(params: &Params, want: &Want<'_>, supply: &Supply<'_>) -> Result<Fit, Unmet> {
    let needs = want.needs;
    let active = supply.provider.state == ProviderState::Active;
    met(
        active && is_online(supply.machine, supply.load),
        Unmet::Online,
    )?;
    met(
        supply.terms.is_none_or(|t| t.tier == want.tier),
        Unmet::Tier,
    )?;
    let devices = pick_devices(needs, supply)?;
    let (cpu, memory, disk) = share(want, supply)?;
    met(
        supply.machine.spec.isolation >= needs.isolation,
        Unmet::Isolation,
    )?;
    met(region_fits(needs, supply.machine), Unmet::Region)?;
    met(needs.latency.is_none(), Unmet::Latency)?;
    met(needs.certificates.is_empty(), Unmet::Certificate)?;
    met(reliable(needs, supply.provider), Unmet::Reliability)?;
    let sla = supply.terms.map_or(SlaClass::None, |t| t.sla);
    met(sla >= needs.sla, Unmet::Sla)?;
    met(needs.claims == Claims::Allowed, Unmet::Unverified)?;
    let owner = supply.machine.provider;
    met(
        needs.providers.is_empty() || needs.providers.contains(&owner),
        Unmet::Provider,
    )?;
    met(!excluded(want, supply.machine), Unmet::Excluded)?;
    let term = supply
        .terms
        .is_none_or(|t| (t.term_min..=t.term_max).contains(&want.duration));
    met(term, Unmet::Term)?;
    let rate = supply.prices.per_device_hour;
    let units = device_count(&devices);
    let collateral = collateral(params, want.tier, rate, units);
    met(collateral <= supply.free_bond, Unmet::Bond)?;
    met(want.price_cap.is_none_or(|cap| rate <= cap), Unmet::Price)?;
    met(
        reserve(params, want, supply.prices, units) <= want.budget,
        Unmet::Budget,
    )?;
    Ok(Fit {
        devices,
        cpu,
        memory,
        disk,
        collateral,
    })
}

fn met(is: bool, unmet: Unmet) -> Result<(), Unmet> {
    if is { Ok(()) } else { Err(unmet) }
}

/// Picks the lowest free devices that will do; within one fabric, the fabric with the fewest that suffice.
fn pick_devices(needs: &Requirement, supply: &Supply<'_>) -> Result<Vec<u8>, Unmet> {
    let spec = &supply.machine.spec;
    let named = supply.devices.iter();
    let named = named.filter_map(|i| Some((*i, spec.devices.get(usize::from(*i))?)));
    let mut left: Vec<(u8, &Device)> = named.collect();
    let mut keep = |unmet, will_do: &dyn Fn(u8, &Device) -> bool| {
        left.retain(|(i, d)| will_do(*i, d));
        if left.is_empty() { Err(unmet) } else { Ok(()) }
    };
    let mut one_fabric = false;
    match &needs.device {
        DeviceNeed::Any => keep(Unmet::Model, &|_, _| true)?,
        DeviceNeed::Cpu => keep(Unmet::Model, &|_, d| d.class == DeviceClass::Cpu)?,
        DeviceNeed::Gpu {
            models,
            vram_min,
            interface,
            one_fabric: one,
        } => {
            one_fabric = *one;
            keep(Unmet::Model, &|_, d| {
                d.class != DeviceClass::Cpu && (models.is_empty() || models.contains(&d.model))
            })?;
            keep(Unmet::Vram, &|_, d| d.vram >= *vram_min)?;
            keep(Unmet::Interface, &|_, d| {
                interface.is_none_or(|i| d.interface == i)
            })?;
        }
    }
    let used = supply.load.map_or(0, |l| l.devices);
    keep(Unmet::DevicesFree, &|i, _| device_bit(i) & used == 0)?;
    let count = usize::from(needs.count);
    met(left.len() >= count, Unmet::DevicesFree)?;
    if one_fabric {
        let size = |fabric: u8| left.iter().filter(|(_, d)| d.fabric == fabric).count();
        let fabrics = left.iter().map(|(_, d)| (size(d.fabric), d.fabric));
        let enough = fabrics.filter(|(size, _)| *size >= count).min();
        let (_, fabric) = enough.ok_or(Unmet::Fabric)?;
        left.retain(|(_, d)| d.fabric == fabric);
    }
    Ok(left.iter().take(count).map(|(i, _)| *i).collect())
}

/// Returns processor time, memory and disk: what is asked for, else the devices' share of the machine.
fn share(want: &Want<'_>, supply: &Supply<'_>) -> Result<(MilliCpu, ByteSize, ByteSize), Unmet> {
    let needs = want.needs;
    let spec = &supply.machine.spec;
    let count = u64::from(needs.count);
    let all = u64::try_from(spec.devices.len()).unwrap_or(u64::MAX);
    let of = |total: u64| {
        let part = u128::from(total).saturating_mul(u128::from(count));
        let part = part.checked_div(u128::from(all)).unwrap_or(0);
        u64::try_from(part).unwrap_or(total)
    };
    let cpu_share =
        MilliCpu::from_milli(u32::try_from(of(u64::from(spec.cpu.milli()))).unwrap_or(0));
    let cpu = needs.cpu.unwrap_or(cpu_share);
    let memory = needs
        .memory
        .unwrap_or(ByteSize::from_bytes(of(spec.memory.bytes())));
    let disk = needs.disk.max(want.storage_kept);
    let idle = Load::default();
    let used = supply.load.unwrap_or(&idle);
    met(cpu <= spec.cpu.saturating_sub(used.cpu()), Unmet::Cpu)?;
    met(
        memory <= spec.memory.saturating_sub(used.memory()),
        Unmet::Memory,
    )?;
    met(disk <= spec.disk.saturating_sub(used.disk()), Unmet::Disk)?;
    Ok((cpu, memory, disk))
}

fn region_fits(needs: &Requirement, machine: &Machine) -> bool {
    let region = machine.spec.region.as_ref();
    needs.regions.is_empty() || region.is_some_and(|r| needs.regions.contains(r))
}

fn reliable(needs: &Requirement, provider: &Provider) -> bool {
    needs
        .reliability_min
        .is_none_or(|min| reliability(provider).is_some_and(|r| r >= min))
}

/// Returns whether the job shall not meet this machine: by its own words, or after what it saw.
fn excluded(want: &Want<'_>, machine: &Machine) -> bool {
    let domain = &machine.spec.failure_domain;
    let avoided = |a: &Avoid| a.machine == machine.id || a.domain.as_ref() == Some(domain);
    want.needs.exclude_machines.contains(&machine.id)
        || want.needs.exclude_domains.contains(domain)
        || want.avoid.iter().any(avoided)
        || want.doubted_by.contains(&machine.provider)
}

/// Returns the bond that a lease reserves: for spot until it is ready, else an hour's price until its end.
pub(crate) fn collateral(params: &Params, tier: Tier, rate: Rate, units: u32) -> Money {
    let time = match tier {
        Tier::Spot => params.start_collateral,
        Tier::OnDemand | Tier::Reserved => Millis::from_millis(MILLIS_PER_HOUR),
    };
    rate.charge(units, time).unwrap_or(Money::MAX)
}

/// Returns what a placement must at least have left: a short run, and the storage of one pause.
pub(crate) fn reserve(params: &Params, want: &Want<'_>, prices: &Prices, units: u32) -> Money {
    let run = prices.per_device_hour.charge(units, params.order_reserve);
    let kept = storage_charge(prices.per_gib_hour, want.storage_kept, want.pause_grace);
    run.unwrap_or(Money::MAX).saturating_add(kept)
}
