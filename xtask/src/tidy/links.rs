//! Links between documents: each must lead to a file or folder of this repository.

use super::Finding;
use super::repo::{File, Repo};

/// Reports links of Markdown files that lead nowhere. Links to other places are not followed.
pub(crate) fn lead_somewhere(repo: &Repo) -> Vec<Finding> {
    let documents = repo.files.iter().filter(|file| file.extension() == "md");
    documents
        .flat_map(|document| broken(repo, document))
        .collect()
}

fn broken(repo: &Repo, document: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut in_fence = false;
    for (index, line) in document.text().lines().enumerate() {
        if line.trim_start().starts_with("```") || line.trim_start().starts_with("~~~") {
            in_fence = !in_fence;
        }
        if in_fence {
            continue;
        }
        for target in targets(&without_code(line)) {
            if !leads_somewhere(repo, &document.path, target) {
                let place = format!("{}:{}", document.path, index + 1);
                findings.push(Finding::failure(
                    "links",
                    place,
                    format!("{target} leads nowhere"),
                ));
            }
        }
    }
    findings
}

/// Gives where the links of a line lead: `[text](target "title")`, and `[name]: target`.
fn targets(line: &str) -> Vec<&str> {
    let inline = line.match_indices("](").filter_map(|(at, _)| {
        let (target, _) = line.get(at + 2..)?.split_once(')')?;
        target.split_whitespace().next()
    });
    let mut targets: Vec<&str> = inline.collect();
    if line.starts_with('[')
        && let Some((_, target)) = line.split_once("]: ")
    {
        targets.extend(target.split_whitespace().next());
    }
    targets
}

fn leads_somewhere(repo: &Repo, from: &str, target: &str) -> bool {
    let target = target.trim_start_matches('<').trim_end_matches('>');
    let elsewhere = target.contains("://") || target.starts_with("mailto:");
    let path = target.split(['#', '?']).next().unwrap_or_default();
    if elsewhere || path.is_empty() {
        return true;
    }
    let Some(path) = resolve(from, path) else {
        return false;
    };
    let folder = format!("{path}/");
    path.is_empty()
        || repo
            .files
            .iter()
            .any(|it| it.path == path || it.path.starts_with(&folder))
}

/// Gives the path from the root, or nothing for one that leaves the repository.
fn resolve(from: &str, path: &str) -> Option<String> {
    if path.starts_with('/') {
        return None;
    }
    let folder = from.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            _ => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Blanks out code between backticks, which may look like a link.
fn without_code(line: &str) -> String {
    let pieces = line.split('`').enumerate();
    pieces
        .map(|(index, piece)| if index % 2 == 0 { piece } else { " " })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::repo::made_up::files;
    use super::*;

    fn broken_in(text: &str) -> usize {
        let others = [
            ("README.md", ""),
            ("docs/start/run.md", ""),
            ("crates/a/src/lib.rs", ""),
        ];
        let mut all = others.to_vec();
        all.push(("docs/here.md", text));
        lead_somewhere(&files(&all)).len()
    }

    #[test]
    fn broken_links_are_found() {
        assert_eq!(broken_in("see [a](missing.md) and [b](start/run.md)"), 1);
        assert_eq!(broken_in("[a](/README.md)"), 1);
        assert_eq!(broken_in("[a](../../shared/plan.md)"), 1);
        assert_eq!(broken_in("[a]: nowhere.md\n"), 1);
    }

    #[test]
    fn sound_links_pass() {
        let text = "[a](../README.md) [b](start/) [c](../crates/a/src/lib.rs#L3) [d](#here)\n\
                    [e](https://example.org/x.md) `[f](g.md)`\n```\n[h](i.md)\n```\n";
        assert_eq!(broken_in(text), 0);
    }
}
