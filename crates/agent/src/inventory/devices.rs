//! Finds the devices of a lease again: from their places in the machine's record to the names that the runtime wants.

use api::DeviceView;
use market::{DeviceClass, NetworkName};
use runtime::Blame;

use super::{Gpu, listing::gpu_identity};

/// How NVIDIA's tool calls its GPUs: `nvidia-ctk cdi generate` names each by number, and newer ones by UUID as well.
const NVIDIA_KIND: &str = "nvidia.com/gpu";

/// Why a lease cannot have its devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// The record does not name it: what was read is older than the lease, or newer.
    #[error("the machine's record has no device {0}")]
    Unlisted(u8),
    /// The hardware that stands in the record is not in the machine.
    #[error("device {0} is no longer in the machine, or is cut into instances")]
    Gone(u8),
    /// No description tells what a container needs for it.
    #[error("no CDI file describes device {0}")]
    Undescribed(u8),
    /// We know no driver that tells of it.
    #[error("device {0} is of a kind that this agent cannot hand out")]
    Foreign(u8),
}

impl DeviceError {
    /// Returns whose fault it is.
    pub const fn blame(self) -> Blame {
        match self {
            Self::Unlisted(_) => Blame::Transient,
            Self::Gone(_) | Self::Undescribed(_) | Self::Foreign(_) => Blame::Provider,
        }
    }
}

/// Returns the names of the devices at `places` of a machine's record, for [`runtime::ContainerSpec::devices`]. CPU slots
/// have none.
///
/// Hardware is found by its identity, never by its place or the driver's number: those shift when a card fails.
///
/// # Errors
/// [`DeviceError`], where the lease would get another device than it pays for, or none.
pub fn names_of_lease(
    places: &[u8],
    listed: &[DeviceView],
    network: &NetworkName,
    gpus: &[Gpu],
    described: &[String],
) -> Result<Vec<String>, DeviceError> {
    let mut names = Vec::new();
    for &place in places {
        let device = listed.iter().find(|device| device.index == place);
        let device = device.ok_or(DeviceError::Unlisted(place))?;
        match device.class {
            DeviceClass::Cpu => continue,
            DeviceClass::Nvidia => {}
            _ => return Err(DeviceError::Foreign(place)),
        }
        let gpu = gpus
            .iter()
            .find(|gpu| gpu_identity(network, gpu) == device.identity && !gpu.mig)
            .ok_or(DeviceError::Gone(place))?;
        names.push(cdi_name(gpu, described).ok_or(DeviceError::Undescribed(place))?);
    }
    Ok(names)
}

/// Returns the name under which `described` has a GPU. Its UUID goes first: a number means another card once one is gone.
pub(super) fn cdi_name(gpu: &Gpu, described: &[String]) -> Option<String> {
    let by_uuid = format!("{NVIDIA_KIND}={}", gpu.uuid);
    let by_number = gpu.index.map(|index| format!("{NVIDIA_KIND}={index}"));
    [Some(by_uuid), by_number]
        .into_iter()
        .flatten()
        .find(|name| described.contains(name))
}

#[cfg(test)]
mod tests {
    use market::{Digest, Interface, Name};

    use super::*;
    use crate::inventory::{GpuProbe as _, RecordedProbe};

    fn network() -> NetworkName {
        NetworkName::parse("test").unwrap()
    }

    /// Two, as the driver of an earlier start numbered them: against the bus order.
    fn gpus() -> Vec<Gpu> {
        let answer = include_str!("h100x2.json").to_owned();
        let mut gpus = RecordedProbe { answer }.gpus().unwrap();
        gpus[0].index = Some(1);
        gpus[1].index = Some(0);
        gpus
    }

    fn view(index: u8, class: DeviceClass, identity: Digest) -> DeviceView {
        DeviceView {
            index,
            class,
            model: Name::parse("h100").unwrap(),
            vram_bytes: 1,
            interface: Interface::Module,
            fabric: 0,
            identity,
        }
    }

    fn listed() -> Vec<DeviceView> {
        let both = gpus();
        let both = both.iter().zip(0..);
        both.map(|(gpu, place)| view(place, DeviceClass::Nvidia, gpu_identity(&network(), gpu)))
            .collect()
    }

    fn by_uuid() -> Vec<String> {
        let uuids = gpus()
            .into_iter()
            .map(|gpu| format!("nvidia.com/gpu={}", gpu.uuid));
        uuids.chain(["nvidia.com/gpu=all".to_owned()]).collect()
    }

    #[test]
    fn a_lease_gets_the_hardware_that_stands_in_the_record() {
        let numbers = ["nvidia.com/gpu=0", "nvidia.com/gpu=1"].map(str::to_owned);
        let named = |places: &[u8], names: &[String]| {
            names_of_lease(places, &listed(), &network(), &gpus(), names).unwrap()
        };
        assert_eq!(named(&[1], &by_uuid()), [by_uuid()[1].clone()]);
        assert_eq!(named(&[0, 1], &by_uuid()), by_uuid()[..2]);
        // Where there are only numbers, the driver's, not the record's.
        assert_eq!(named(&[0], &numbers), ["nvidia.com/gpu=1"]);
        assert_eq!(named(&[1], &numbers), ["nvidia.com/gpu=0"]);
        let slot = [view(0, DeviceClass::Cpu, Digest([1; 32]))];
        assert_eq!(
            names_of_lease(&[0], &slot, &network(), &[], &[]),
            Ok(vec![])
        );
    }

    #[test]
    fn what_is_not_there_is_never_replaced_by_another() {
        let one_left = &gpus()[1..];
        let named = |places: &[u8], gpus: &[Gpu], names: &[String]| {
            names_of_lease(places, &listed(), &network(), gpus, names)
        };
        let gone = named(&[0], one_left, &by_uuid()).unwrap_err();
        assert_eq!(
            (gone, gone.blame()),
            (DeviceError::Gone(0), Blame::Provider)
        );
        let late = named(&[2], &gpus(), &by_uuid()).unwrap_err();
        assert_eq!(
            (late, late.blame()),
            (DeviceError::Unlisted(2), Blame::Transient)
        );
        // One description for all cards together is not this card's.
        let all = ["nvidia.com/gpu=all".to_owned()];
        assert_eq!(named(&[0], &gpus(), &all), Err(DeviceError::Undescribed(0)));
        let foreign = [view(0, DeviceClass::Amd, Digest([1; 32]))];
        let foreign = names_of_lease(&[0], &foreign, &network(), &gpus(), &by_uuid());
        assert_eq!(foreign, Err(DeviceError::Foreign(0)));
        let other = NetworkName::parse("other").unwrap();
        let other = names_of_lease(&[0], &listed(), &other, &gpus(), &by_uuid());
        assert_eq!(other, Err(DeviceError::Gone(0)));
        let mut cut = gpus();
        cut[0].mig = true;
        assert_eq!(named(&[0], &cut, &by_uuid()), Err(DeviceError::Gone(0)));
    }
}
