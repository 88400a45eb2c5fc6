//! Three numbers, and a stream of random ones.
//!
//! Only `+ - * /` and the square root are used: IEEE 754 fixes their last bit, and that is what
//! makes a picture the same on every machine. Sines and powers come from a library and may differ.

use std::ops::{Add, Mul, Neg, Sub};

/// A point, a direction or a colour.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Vector {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) z: f64,
}

impl Vector {
    pub(crate) const ZERO: Self = Self::new(0.0, 0.0, 0.0);

    pub(crate) const fn new(x: f64, y: f64, z: f64) -> Self {
        Self { x, y, z }
    }

    pub(crate) fn dot(self, other: Self) -> f64 {
        self.x * other.x + self.y * other.y + self.z * other.z
    }

    pub(crate) fn cross(self, other: Self) -> Self {
        Self::new(
            self.y * other.z - self.z * other.y,
            self.z * other.x - self.x * other.z,
            self.x * other.y - self.y * other.x,
        )
    }

    /// Multiplies part by part: light of this colour on a surface of that one.
    pub(crate) fn tint(self, other: Self) -> Self {
        Self::new(self.x * other.x, self.y * other.y, self.z * other.z)
    }

    pub(crate) fn unit(self) -> Self {
        self * (1.0 / self.dot(self).sqrt())
    }

    /// Mirrors this direction on a surface with the unit normal `normal`.
    pub(crate) fn reflect(self, normal: Self) -> Self {
        self - normal * (2.0 * self.dot(normal))
    }
}

impl Add for Vector {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self::new(self.x + other.x, self.y + other.y, self.z + other.z)
    }
}

impl Sub for Vector {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self::new(self.x - other.x, self.y - other.y, self.z - other.z)
    }
}

impl Mul<f64> for Vector {
    type Output = Self;

    fn mul(self, factor: f64) -> Self {
        Self::new(self.x * factor, self.y * factor, self.z * factor)
    }
}

impl Neg for Vector {
    type Output = Self;

    fn neg(self) -> Self {
        self * -1.0
    }
}

/// Random numbers that depend on the seed alone (SplitMix64).
///
/// # Source
/// Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014.
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// Seeds one sample of one pixel, so that no other sample changes what this one sees.
    pub(crate) fn new(pixel: u64, sample: u64) -> Self {
        let mut dice = Self(
            pixel
                .wrapping_mul(0xd134_2543_de82_ef95)
                .wrapping_add(sample),
        );
        dice.roll();
        dice
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Gives a number from 0 up to but without 1.
    pub(crate) fn fraction(&mut self) -> f64 {
        // 26 bits are more than a picture shows, and a float holds them exactly.
        let high = u32::try_from(self.roll() >> 38).expect("26 bits fit");
        f64::from(high) / f64::from(1_u32 << 26)
    }

    /// Gives a point inside the ball of radius 1, never its centre.
    pub(crate) fn in_ball(&mut self) -> Vector {
        // Half of all tries hit; 64 misses in a row do not happen, but a loop has an end.
        for _ in 0..64 {
            let mut side = || 2.0 * self.fraction() - 1.0;
            let point = Vector::new(side(), side(), side());
            if (1e-6..=1.0).contains(&point.dot(point)) {
                return point;
            }
        }
        Vector::new(0.0, 1.0, 0.0)
    }
}
