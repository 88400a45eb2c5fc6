//! A path tracer whose pixels depend on nothing but its arguments.
//!
//! Each sample of each pixel has its own random numbers, so neither the number of threads nor the
//! order in which rows are done changes a bit of the result.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::picture::Picture;
use crate::scene::{self, Surface};
use crate::vector::{Dice, Vector};
use crate::{Failure, chores};

/// The longest side: 4096 squared is 48 MiB of pixels, which fits any lease.
pub(crate) const SIDE_MAX: usize = 4096;
/// The most samples for a pixel; noise is invisible long before.
pub(crate) const SAMPLES_MAX: usize = 65_536;
/// The most threads, above what one machine of today has.
pub(crate) const THREADS_MAX: usize = 1024;

/// A path ends after so many surfaces; what a seventh would add is below one step of a pixel.
const BOUNCES_MAX: usize = 6;
/// Width of the picture in letters: narrow enough for any terminal.
const LETTER_COLUMNS: usize = 64;
/// Progress lines come no closer together than this.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// What to render.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// Paths traced for each pixel.
    pub(crate) samples: usize,
    pub(crate) threads: usize,
    /// Renders again, and compares, until this much time has gone.
    pub(crate) at_least: Duration,
    /// Where to write the picture as PPM.
    pub(crate) out: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        let threads = thread::available_parallelism()
            .map_or(1, usize::from)
            .min(THREADS_MAX);
        Self {
            width: 320,
            height: 180,
            samples: 256,
            threads,
            at_least: Duration::ZERO,
            out: None,
        }
    }
}

/// Renders, says how it goes on standard error, and shows the result on standard output.
pub(crate) fn run(settings: &Settings) -> Result<(), Failure> {
    let Settings {
        width,
        height,
        samples,
        threads,
        ..
    } = *settings;
    let mut progress = Progress::new();
    chores::complain(&format!(
        "rendering {width}x{height}, {samples} samples a pixel, {threads} threads"
    ))?;

    let picture = render(settings, &mut progress)?;
    let first = picture.fingerprint();
    let once = progress.started.elapsed();
    let mut renderings = 1;
    while progress.started.elapsed() < settings.at_least {
        let again = render(settings, &mut progress)?.fingerprint();
        if again != first {
            return Err(Failure::PixelsDiffer { first, again });
        }
        renderings += 1;
    }

    if let Some(path) = &settings.out {
        let attempt = || Failure::during(format!("write {}", path.display()));
        let mut file = BufWriter::new(File::create(path).map_err(attempt())?);
        picture
            .write_ppm(&mut file)
            .and_then(|()| file.flush())
            .map_err(attempt())?;
    }

    let paths = width * height * samples;
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{}picture  {width}x{height}, {samples} samples a pixel, {paths} paths\n\
         pixels   fnv1a64:{first:016x}\n\
         time     {:.3} s on {threads} threads, rendered {renderings}x in {:.3} s",
        picture.letters(LETTER_COLUMNS),
        once.as_secs_f64(),
        progress.started.elapsed().as_secs_f64(),
    )
    .and_then(|()| out.flush())
    .map_err(Failure::during("write the result"))
}

/// Renders one picture on as many threads as asked, row by row.
fn render(settings: &Settings, progress: &mut Progress) -> Result<Picture, Failure> {
    let Settings {
        width,
        height,
        threads,
        ..
    } = *settings;
    let camera = Camera::new(width, height);
    let next_row = AtomicUsize::new(0);
    // One waiting row for each thread bounds the memory, and nobody waits long.
    let (sender, rows) = mpsc::sync_channel(threads);
    let mut bytes = vec![0; 3 * width * height];
    thread::scope(|scope| {
        for _ in 0..threads {
            let (sender, camera, next_row) = (sender.clone(), &camera, &next_row);
            scope.spawn(move || {
                loop {
                    let row = next_row.fetch_add(1, Ordering::Relaxed);
                    // The receiver is gone when progress could not be written; then stop early.
                    if row >= height
                        || sender
                            .send((row, trace_row(settings, camera, row)))
                            .is_err()
                    {
                        break;
                    }
                }
            });
        }
        drop(sender);
        for (done, (row, line)) in rows.into_iter().enumerate() {
            bytes[3 * width * row..3 * width * (row + 1)].copy_from_slice(&line);
            progress.rows(done + 1, height)?;
        }
        Ok(())
    })?;
    Ok(Picture {
        width,
        height,
        bytes,
    })
}

fn trace_row(settings: &Settings, camera: &Camera, row: usize) -> Vec<u8> {
    let mut line = Vec::with_capacity(3 * settings.width);
    for column in 0..settings.width {
        let pixel = (row * settings.width + column) as u64;
        let mut light = Vector::ZERO;
        for sample in 0..settings.samples {
            let mut dice = Dice::new(pixel, sample as u64);
            let direction = camera.towards(column, row, &mut dice);
            light = light + trace(camera.eye, direction, &mut dice);
        }
        let mean = light * (1.0 / float(settings.samples));
        line.extend([mean.x, mean.y, mean.z].map(level));
    }
    line
}

/// Follows one path until it leaves the scene, meets a lamp or has bounced often enough.
fn trace(eye: Vector, direction: Vector, dice: &mut Dice) -> Vector {
    let (mut origin, mut direction) = (eye, direction);
    let mut tint = Vector::new(1.0, 1.0, 1.0);
    for _ in 0..BOUNCES_MAX {
        let Some(hit) = scene::meet(origin, direction) else {
            return tint.tint(scene::sky(direction));
        };
        origin = hit.point;
        match hit.surface {
            Surface::Lamp(light) => return tint.tint(light),
            Surface::Matt(colour) => {
                tint = tint.tint(colour);
                direction = hit.normal + dice.in_ball().unit();
            }
            Surface::Metal(colour, blur) => {
                tint = tint.tint(colour);
                direction = direction.unit().reflect(hit.normal) + dice.in_ball() * blur;
            }
        }
    }
    Vector::ZERO
}

/// Where the picture is seen from, and the plane it is seen on.
#[derive(Debug)]
struct Camera {
    eye: Vector,
    corner: Vector,
    across: Vector,
    down: Vector,
}

impl Camera {
    fn new(width: usize, height: usize) -> Self {
        let eye = Vector::new(0.0, 2.2, 7.5);
        let ahead = (Vector::new(0.0, 1.0, 0.0) - eye).unit();
        let right = ahead.cross(Vector::new(0.0, 1.0, 0.0)).unit();
        let up = right.cross(ahead);
        // At distance 1 the plane is 0.62 high: about the view of a 58 mm lens.
        let (plane_height, plane_width) = (0.62, 0.62 * float(width) / float(height));
        Self {
            eye,
            corner: ahead - right * (plane_width / 2.0) + up * (plane_height / 2.0),
            across: right * (plane_width / float(width)),
            down: -up * (plane_height / float(height)),
        }
    }

    /// Gives a direction through a random spot of the pixel.
    fn towards(&self, column: usize, row: usize, dice: &mut Dice) -> Vector {
        self.corner
            + self.across * (float(column) + dice.fraction())
            + self.down * (float(row) + dice.fraction())
    }
}

/// Turns light into a byte, with the square root as gamma (a power would come from a library).
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0..=255 in the line above"
)]
fn level(light: f64) -> u8 {
    let level = (light.max(0.0).sqrt() * 255.0 + 0.5).clamp(0.0, 255.0);
    level as u8
}

/// Sizes and counts are far below 2^52, where floats stop holding every whole number.
#[expect(
    clippy::cast_precision_loss,
    reason = "bounded by SIDE_MAX and SAMPLES_MAX"
)]
fn float(number: usize) -> f64 {
    number as f64
}

/// Says on standard error how far the rendering is, now and then.
#[derive(Debug)]
struct Progress {
    started: Instant,
    said: Instant,
}

impl Progress {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            started: now,
            said: now,
        }
    }

    fn rows(&mut self, done: usize, of: usize) -> Result<(), Failure> {
        if self.said.elapsed() < PROGRESS_EVERY {
            return Ok(());
        }
        self.said = Instant::now();
        chores::complain(&format!(
            "{:3} % after {:.1} s",
            100 * done / of,
            self.started.elapsed().as_secs_f64()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small(threads: usize) -> Picture {
        let settings = Settings {
            width: 64,
            height: 36,
            samples: 4,
            threads,
            ..Settings::default()
        };
        render(&settings, &mut Progress::new()).unwrap()
    }

    #[test]
    fn pixels_are_the_same_on_any_machine() {
        // Written down from a run on x86-64; changes only when the scene or the tracer does.
        assert_eq!(
            format!("{:016x}", small(1).fingerprint()),
            "b04007a10b74e03b"
        );
    }

    #[test]
    fn pixels_do_not_depend_on_threads() {
        assert_eq!(small(1), small(3));
    }

    #[test]
    fn picture_shows_something() {
        let picture = small(1);
        let (darkest, brightest) = (
            picture.bytes.iter().min().unwrap(),
            picture.bytes.iter().max().unwrap(),
        );
        assert!(*darkest < 60 && *brightest == 255, "{darkest}..{brightest}");
    }
}
