//! Canonical names of GPU models: what a tenant asks for.
//!
//! The driver's marketing name loses vendor, series, memory and interface words, which the ledger has fields for; what
//! remains is joined in lower case: `NVIDIA GeForce RTX 4090` is `rtx4090`, `NVIDIA H100 80GB HBM3` is `h100`. Words that
//! mean other silicon or other limits stay (`ti`, `super`, `d`, `laptop`).

use market::{Interface, Name};

/// Words that do not tell models apart.
const NOISE: &[&str] = &[
    "nvidia",
    "geforce",
    "tesla",
    "quadro",
    "graphics",
    "gpu",
    "device",
    "generation",
    "edition",
    "server",
    "workstation",
    "blackwell",
    "pcie",
    "nvl",
    "max",
    "q",
];
/// Models that exist only as modules.
const MODULES: &[&str] = &["gh200", "gb200", "gb300", "b100", "b200", "b300"];
/// Models that are modules unless their name says otherwise.
const MODULES_BY_DEFAULT: &[&str] = &["h100", "h200", "h800", "h20"];

/// Returns the canonical model of the driver's `name`; `None` where nothing of it is left.
pub fn canonical_model(name: &str) -> Option<Name> {
    let joined: String = words(name).filter(|w| !is_noise(w)).collect();
    Name::parse(&joined)
}

/// Returns how a GPU of the driver's `name` is attached.
pub fn interface_of(name: &str) -> Interface {
    let words: Vec<String> = words(name).collect();
    let has = |word: &str| words.iter().any(|w| w == word);
    let model = canonical_model(name);
    let model = model.as_ref().map_or("", Name::as_str);
    let module = words.iter().any(|w| w.starts_with("sxm"))
        || MODULES.contains(&model)
        || (MODULES_BY_DEFAULT.contains(&model) && !has("pcie") && !has("nvl"));
    if module {
        Interface::Module
    } else {
        Interface::Pcie
    }
}

fn words(name: &str) -> impl Iterator<Item = String> {
    name.split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|w| !w.is_empty())
        .map(str::to_ascii_lowercase)
}

fn is_noise(word: &str) -> bool {
    let memory = word
        .strip_suffix("gb")
        .is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
    NOISE.contains(&word) || memory || word.starts_with("hbm") || word.starts_with("sxm")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn driver_names_become_the_markets_names() {
        let table = [
            ("NVIDIA H100 80GB HBM3", "h100", Interface::Module),
            ("NVIDIA H100 PCIe", "h100", Interface::Pcie),
            ("NVIDIA H100 NVL", "h100", Interface::Pcie),
            ("NVIDIA H200", "h200", Interface::Module),
            ("NVIDIA GH200 480GB", "gh200", Interface::Module),
            ("NVIDIA B200", "b200", Interface::Module),
            ("NVIDIA A100-SXM4-80GB", "a100", Interface::Module),
            ("NVIDIA A100 80GB PCIe", "a100", Interface::Pcie),
            ("NVIDIA A10G", "a10g", Interface::Pcie),
            ("NVIDIA L40S", "l40s", Interface::Pcie),
            ("Tesla T4", "t4", Interface::Pcie),
            ("Tesla V100-SXM2-16GB", "v100", Interface::Module),
            ("NVIDIA GeForce RTX 4090", "rtx4090", Interface::Pcie),
            ("NVIDIA GeForce RTX 4090 D", "rtx4090d", Interface::Pcie),
            (
                "NVIDIA GeForce RTX 4090 Laptop GPU",
                "rtx4090laptop",
                Interface::Pcie,
            ),
            (
                "NVIDIA GeForce RTX 4070 Ti SUPER",
                "rtx4070tisuper",
                Interface::Pcie,
            ),
            ("NVIDIA GeForce GTX 1080 Ti", "gtx1080ti", Interface::Pcie),
            ("NVIDIA RTX A6000", "rtxa6000", Interface::Pcie),
            (
                "NVIDIA RTX 6000 Ada Generation",
                "rtx6000ada",
                Interface::Pcie,
            ),
            (
                "NVIDIA RTX PRO 6000 Blackwell Server Edition",
                "rtxpro6000",
                Interface::Pcie,
            ),
            ("Quadro RTX 8000", "rtx8000", Interface::Pcie),
        ];
        for (name, model, interface) in table {
            assert_eq!(canonical_model(name).unwrap().as_str(), model, "{name}");
            assert_eq!(interface_of(name), interface, "{name}");
        }
    }

    #[test]
    fn a_name_without_a_model_has_none() {
        for name in [
            "",
            "NVIDIA",
            "NVIDIA Graphics Device",
            "日本",
            &"x".repeat(65),
        ] {
            assert_eq!(canonical_model(name), None, "{name}");
        }
    }
}
