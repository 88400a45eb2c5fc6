//! What a provider does beside running containers: bidding, and saying which images it takes.

use crate::world::{World, can_run_containers, job_id};

/// The cheaper of the two providers of `up` asks for this much per slot and hour.
const BEST_ASK_MICROS: u64 = 90_000;

/// Returns how the demo's image is run on this machine.
fn image_words(world: &World, folder: &std::path::Path) -> Vec<String> {
    let offers: serde_json::Value =
        serde_json::from_str(&world.good(&["offers", "-o", "json"])).unwrap();
    let class = offers["items"][0]["isolation"].as_str().unwrap().to_owned();
    let image = format!("oci:{}:latest", folder.display());
    vec!["--isolation".to_owned(), class, image]
}

fn words<'a>(options: &[&'a str], image: &'a [String], command: &[&'a str]) -> Vec<&'a str> {
    let mut words = vec!["run"];
    words.extend(options);
    words.extend(image.iter().map(String::as_str));
    words.push("--");
    words.extend(command);
    words
}

#[test]
fn providers_bid_below_their_offers_and_take_images_only_from_where_they_said() {
    if !can_run_containers(
        "providers_bid_below_their_offers_and_take_images_only_from_where_they_said",
    ) {
        return;
    }
    let world = World::new();
    let port = world.port.to_string();
    world.good(&["up", "--demo", "--port", &port]);
    let demo = world.home().join("images/demo");
    a_window_collects_bids_of_both_providers(&world, &demo);

    // Anybody's folder runs on a network of one's own.
    let elsewhere = tempfile::tempdir().unwrap();
    let copy = elsewhere.path().join("my image");
    copy_tree(&demo, &copy);
    let image = image_words(&world, &copy);
    let ran = world.run(&words(&["-y", "--budget", "0.05"], &image, &["sleep", "0"]));
    assert_eq!(ran.code, 0, "{}", ran.stderr);

    world.good(&["down"]);
    let other = tempfile::tempdir().unwrap();
    let allowed = other.path().to_str().unwrap();
    world.good(&["up", "--image-folder", allowed, "--port", &port]);
    let ran = world.run(&words(&["-y", "--budget", "0.05"], &image, &["sleep", "0"]));
    assert_eq!(ran.code, 125, "{}", ran.stderr);
    assert!(ran.stderr.contains("image-not-allowed"), "{}", ran.stderr);
    assert!(ran.stderr.contains("tradewind: next: "), "{}", ran.stderr);
    let image = image_words(&world, &demo);
    let ran = world.run(&words(&["-y", "--budget", "0.05"], &image, &["sleep", "0"]));
    assert_eq!(ran.code, 0, "the home folder's images stay: {}", ran.stderr);
    // It is kept for the next time, until another word is said.
    world.good(&["down"]);
    world.good(&["up"]);
    let stored = std::fs::read_to_string(world.home().join("providers/a/provider.json")).unwrap();
    assert!(stored.contains(allowed), "{stored}");
    world.good(&["down"]);
    assert_eq!(world.left(), Vec::<String>::new());
}

fn a_window_collects_bids_of_both_providers(world: &World, image: &std::path::Path) {
    let image = image_words(world, image);
    let options = [
        "-d", "-y", "--budget", "0.05", "--window", "1s", "--name", "bids",
    ];
    let job = job_id(&world.good(&words(&options, &image, &["sleep", "0"])));
    let begun = std::time::Instant::now();
    let lease = loop {
        let list: serde_json::Value =
            serde_json::from_str(&world.good(&["lease", "list", &job, "-o", "json"])).unwrap();
        if let Some(lease) = list["items"].as_array().and_then(|items| items.first()) {
            break lease.clone();
        }
        assert!(begun.elapsed().as_secs() < 30, "no lease");
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    assert!(
        lease["source"].as_str().unwrap().starts_with("bid_"),
        "{lease}"
    );
    let price = &lease["prices"]["per_device_hour"]["micros"];
    let price: u64 = price.as_str().unwrap().parse().unwrap();
    assert!(price < BEST_ASK_MICROS, "{lease}");
    let events = crate::world::http_get(
        world.port,
        "/api/v1/events?kind=bid-placed&limit=100&follow=false",
    );
    let bids = events.matches("bid-placed").count();
    assert_eq!(bids, 2, "one of each provider: {events}");
}

fn copy_tree(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_tree(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}
