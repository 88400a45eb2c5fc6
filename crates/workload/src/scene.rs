//! What the picture shows: three balls and a lamp on a chequered floor under an evening sky.

use crate::vector::Vector;

/// What a surface does with light.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Surface {
    /// Scatters it evenly, in this colour.
    Matt(Vector),
    /// Mirrors it in this colour, blurred by so much.
    Metal(Vector, f64),
    /// Gives off light of its own.
    Lamp(Vector),
}

/// Where a ray met something.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hit {
    /// How far along the ray, in units of its direction.
    pub(crate) distance: f64,
    /// The point itself.
    pub(crate) point: Vector,
    /// The unit normal there, on the ray's side.
    pub(crate) normal: Vector,
    /// What it is made of.
    pub(crate) surface: Surface,
}

struct Ball {
    centre: Vector,
    radius: f64,
    surface: Surface,
}

const BALLS: [Ball; 5] = [
    Ball {
        centre: Vector::new(-2.1, 1.0, 0.4),
        radius: 1.0,
        surface: Surface::Matt(Vector::new(0.10, 0.36, 0.62)),
    },
    Ball {
        centre: Vector::new(0.0, 1.25, -0.3),
        radius: 1.25,
        surface: Surface::Metal(Vector::new(0.95, 0.93, 0.88), 0.02),
    },
    Ball {
        centre: Vector::new(2.3, 0.9, 0.5),
        radius: 0.9,
        surface: Surface::Metal(Vector::new(0.86, 0.58, 0.28), 0.25),
    },
    Ball {
        centre: Vector::new(0.9, 0.35, 1.9),
        radius: 0.35,
        surface: Surface::Matt(Vector::new(0.80, 0.16, 0.14)),
    },
    Ball {
        centre: Vector::new(-3.0, 5.0, 3.0),
        radius: 1.2,
        surface: Surface::Lamp(Vector::new(26.0, 24.0, 20.0)),
    },
];

/// Rays start this far off the surface they leave, or rounding makes them meet it again.
const GAP: f64 = 1e-4;

/// Gives the nearest thing that the ray meets, if any.
pub(crate) fn meet(origin: Vector, direction: Vector) -> Option<Hit> {
    let mut nearest = floor(origin, direction);
    for ball in &BALLS {
        let reach = nearest.map_or(f64::INFINITY, |hit| hit.distance);
        if let Some(hit) = ball.meet(origin, direction, reach) {
            nearest = Some(hit);
        }
    }
    nearest
}

/// Gives the light that comes from where nothing is.
pub(crate) fn sky(direction: Vector) -> Vector {
    let height = 0.5 * (direction.unit().y + 1.0);
    Vector::new(0.42, 0.24, 0.16) * (1.0 - height) + Vector::new(0.02, 0.05, 0.14) * height
}

impl Ball {
    fn meet(&self, origin: Vector, direction: Vector, reach: f64) -> Option<Hit> {
        let offset = origin - self.centre;
        let a = direction.dot(direction);
        let half_b = offset.dot(direction);
        let c = offset.dot(offset) - self.radius * self.radius;
        let discriminant = half_b * half_b - a * c;
        if discriminant < 0.0 {
            return None;
        }
        let root = discriminant.sqrt();
        let within = |distance: &f64| (GAP..reach).contains(distance);
        let distance = [(-half_b - root) / a, (-half_b + root) / a]
            .into_iter()
            .find(|d| within(d))?;
        let point = origin + direction * distance;
        let outward = (point - self.centre) * (1.0 / self.radius);
        let normal = if outward.dot(direction) < 0.0 {
            outward
        } else {
            -outward
        };
        Some(Hit {
            distance,
            point,
            normal,
            surface: self.surface,
        })
    }
}

/// The floor is the plane of height 0, in squares of side 1.
fn floor(origin: Vector, direction: Vector) -> Option<Hit> {
    let distance = -origin.y / direction.y;
    // The comparison is false for a ray that runs along the floor, whose distance is not finite.
    if !(GAP..1e6).contains(&distance) {
        return None;
    }
    let point = origin + direction * distance;
    let even = (point.x.floor() + point.z.floor()).rem_euclid(2.0) < 0.5;
    let shade = if even { 0.75 } else { 0.22 };
    let normal = Vector::new(0.0, if direction.y < 0.0 { 1.0 } else { -1.0 }, 0.0);
    Some(Hit {
        distance,
        point,
        normal,
        surface: Surface::Matt(Vector::new(shade, shade, shade)),
    })
}
