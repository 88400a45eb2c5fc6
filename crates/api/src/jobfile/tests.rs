//! Files that are read, files that are refused with the place of the fault, and files that only want to do harm.

use proptest::prelude::*;

use super::{tree, *};

const WHOLE: &str = r#"# yaml-language-server: $schema=http://127.0.0.1:7070/api/v1/schema/job
name: finetune
image: 127.0.0.1:5000/pytorch:2.8.0
command: python train.py --epochs 3
resources: { gpu: h100:1, vram: 80G, cpu: 8, memory: 64G, disk: 200G }
limits:    { max_price: 1.80, budget: 25, duration: 8h }   # $ per GPU-hour, $ total
where:     { region: eu, reliability: ">=99.5" }
env:       { HF_HOME: /data/hf, DEBUG: 1, EMPTY: "" }
secrets:   [HF_TOKEN]
labels:    { team: vision }
"#;

#[test]
fn whole_file_is_read() {
    let job = JobFile::read(WHOLE).unwrap();
    assert_eq!(job.name.as_ref().unwrap().as_str(), "finetune");
    assert_eq!(
        job.command.as_deref().unwrap()[1..],
        ["train.py", "--epochs", "3"]
    );
    assert_eq!(job.vram, Some(ByteSize::from_gib(80)));
    assert_eq!(job.max_price.unwrap().micros_per_hour(), 1_800_000);
    assert_eq!(job.budget, Some(Money::from_dollars(25)));
    assert_eq!(job.reliability.unwrap().bps(), 9950);
    assert_eq!(job.env["DEBUG"], "1");
    assert_eq!(job.env["EMPTY"], "");
    assert_eq!(job.secrets, ["HF_TOKEN"]);
    assert_eq!(job.gpu.as_ref().unwrap().count, 1);
}

/// Puts the example of a field into a file of its own.
fn example(field: &Field) -> String {
    if field.section.is_empty() {
        format!("{}: {}\n", field.name, field.example)
    } else {
        format!("{}:\n  {}: {}\n", field.section, field.name, field.example)
    }
}

#[test]
fn every_field_of_the_table_is_read_and_written() {
    for field in FIELDS {
        let text = example(field);
        let job = JobFile::read(&text).unwrap_or_else(|error| panic!("{text}{error}"));
        assert_ne!(job, JobFile::default(), "{text}");
        assert_eq!(JobFile::read(&job.write(None)), Ok(job), "{text}");
        if !field.default.is_empty() {
            let text = example(&Field {
                example: field.default,
                ..*field
            });
            JobFile::read(&text).unwrap_or_else(|error| panic!("{text}{error}"));
        }
    }
}

/// Says a fault as the command line does.
fn fault(text: &str) -> String {
    let error = JobFile::read(text).unwrap_err();
    let hint = error
        .hint
        .clone()
        .map_or_else(String::new, |hint| format!("\nhint: {hint}"));
    format!("{error}\n{}{hint}", error.excerpt)
}

#[test]
fn faults_are_shown_where_they_are() {
    let cases = [
        (
            "image: x\nlimits: { duration: soon }\n",
            "2:21: \"soon\" is no duration; use 30s, 10m, 6h, 2d or 1h30m\n2 | limits: { duration: soon }\n  |                     ^^^^",
        ),
        (
            "image: x\nlimits:\n  bugdet: 5\n",
            "3:3: limits has no key \"bugdet\"\n3 |   bugdet: 5\n  |   ^^^^^^\nhint: did you mean: budget",
        ),
        (
            "cpu: 4\n",
            "1:1: a job file has no key \"cpu\"\n1 | cpu: 4\n  | ^^^\nhint: cpu stands under resources",
        ),
        (
            "where: { tier: spot }\n",
            "1:10: where has no key \"tier\"\n1 | where: { tier: spot }\n  |          ^^^^\nhint: tier stands at the top, not under where",
        ),
        (
            "tier: sport\n",
            "1:7: \"sport\" is no tier; use spot, on-demand, reserved\n1 | tier: sport\n  |       ^^^^^\nhint: did you mean: spot",
        ),
        (
            "mounts: []\n",
            "1:1: mounts is not supported yet\n1 | mounts: []\n  | ^^^^^^",
        ),
        (
            "image: a\nimage: b\n",
            "2:1: \"image\" stands twice, first in line 1\n2 | image: b\n  | ^^^^^",
        ),
        (
            "image:\n",
            "1:1: there is no value\n1 | image:\n  | ^^^^^\nhint: give it one, or take the line out",
        ),
    ];
    for (text, want) in cases {
        assert_eq!(fault(text), want, "{text}");
    }
}

#[test]
fn what_is_no_job_file_is_refused() {
    let long = format!("image: {}\n", "x".repeat(FILE_BYTES_MAX));
    let deep = format!("image: {}{}\n", "[".repeat(40), "]".repeat(40));
    let many = format!("secrets: [{}]\n", "A, ".repeat(5_000));
    let cases = [
        ("", "empty"),
        ("# nothing\n", "empty"),
        ("just words\n", "has keys"),
        ("- image: x\n", "has keys"),
        ("image: [x\n", "no YAML"),
        ("a: b: c\n", "no YAML"),
        ("image: &a x\n", "no anchors"),
        ("image: *a\n", ""),
        ("a: &a [x, x]\nb: &b [*a, *a]\n", "no anchors"),
        ("image: !!binary x\n", "no tags"),
        ("image: x\n---\nimage: y\n", "one document"),
        ("? [a, b]\n: c\n", "a key is one word"),
        ("resources: 4\n", "keys of its own"),
        ("env: [A]\n", "names with values"),
        ("env: { A: [b] }\n", "not a list"),
        ("env: { \"A=B\": c }\n", "no variable's name"),
        ("secrets: HF_TOKEN\n", "a list is wanted"),
        ("command: []\n", "no words"),
        (
            "where: { verified_only: \"true\" }\n",
            "neither true nor false",
        ),
        ("resources: { count: 0 }\n", "1 to 255"),
        ("resources: { count: 256 }\n", "1 to 255"),
        ("limits: { attempts: 65536 }\n", "1 to 65535"),
        ("limits: { budget: 1e3 }\n", "no amount"),
        ("workdir: app\n", "not absolute"),
        (&long, "more than"),
        (&deep, "nested too deep"),
        (&many, "more than 4096 values"),
    ];
    for (text, want) in cases {
        let short: String = text.chars().take(60).collect();
        let error = JobFile::read(text).expect_err(&short).to_string();
        assert!(error.contains(want), "{short}: {error}");
    }
}

#[test]
fn flags_win_over_the_file() {
    let file = JobFile::read(WHOLE).unwrap();
    let flags = JobFile {
        budget: Some(Money::from_dollars(1)),
        regions: vec![Name::parse("us").unwrap()],
        env: BTreeMap::from([("DEBUG".to_owned(), "2".to_owned())]),
        secrets: vec!["OTHER".to_owned(), "HF_TOKEN".to_owned()],
        ..JobFile::default()
    };
    let both = flags.over(file.clone());
    assert_eq!(both.budget, Some(Money::from_dollars(1)));
    assert_eq!(both.regions.len(), 1);
    assert_eq!(both.env["DEBUG"], "2");
    assert_eq!(both.env["HF_HOME"], "/data/hf");
    assert_eq!(both.secrets, ["OTHER", "HF_TOKEN"]);
    assert_eq!(both.image, file.image);
    assert_eq!(JobFile::default().over(file.clone()), file);
}

#[test]
fn excerpt_of_a_long_line_shows_the_fault() {
    let text = format!("env: {{ {}: x, \"a=b\": c }}\n", "A".repeat(300));
    let error = JobFile::read(&text).unwrap_err();
    let lines: Vec<&str> = error.excerpt.lines().collect();
    let at = lines[1].find('^').unwrap();
    assert!(lines[0].len() < 120, "{lines:?}");
    assert_eq!(lines[0].get(at..at + 5), Some("\"a=b\""), "{lines:?}");
}

#[test]
fn published_schema_is_the_tables() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/reference/job.schema.json"
    );
    let made = schema();
    let stored = std::fs::read_to_string(path).unwrap_or_default();
    if stored != made && std::env::var_os("INSTA_UPDATE").is_some_and(|how| how == "always") {
        std::fs::write(path, &made).unwrap();
        return;
    }
    assert!(
        stored == made,
        "docs/reference/job.schema.json is stale; write it anew with INSTA_UPDATE=always"
    );
}

#[test]
fn whole_file_passes_every_pattern_of_the_schema() {
    let schema: serde_json::Value = serde_json::from_str(&schema()).unwrap();
    assert_eq!(schema["required"], serde_json::json!(["image"]));
    for field in FIELDS {
        let here = if field.section.is_empty() {
            &schema["properties"]
        } else {
            &schema["properties"][field.section]["properties"]
        };
        assert_eq!(
            here[field.name]["description"],
            field.about,
            "{}",
            field.path()
        );
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "[a-z:{}\\[\\]\",'\n #&*!|>?~%@`-]{0,80}") {
        drop(JobFile::read(&text));
        drop(tree::read(&text));
    }

    #[test]
    fn any_text_is_written_so_that_it_is_read_back(image in "\\PC{1,20}", value in "[\\PC\n\t\"\\\\]{0,20}", words in proptest::collection::vec("\\PC{0,8}", 1..4)) {
        let job = JobFile {
            image: Some(image),
            command: Some(words),
            env: BTreeMap::from([("A".to_owned(), value)]),
            ..JobFile::default()
        };
        prop_assert_eq!(JobFile::read(&job.write(Some("http://x/y"))), Ok(job));
    }
}
