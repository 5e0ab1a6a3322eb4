//! The angles of the rotary embedding, which every device takes from the host: fast sines are wrong at large angles.

/// Cosines and sines [tokens × head_dim / 2] of tokens at `positions`: angle i of position p is p · base^(−2i / head_dim), in f32.
pub(crate) fn angles(positions: &[u32], head_dim: usize, base: f32) -> [Vec<f32>; 2] {
    let half = head_dim / 2;
    // By `libm`: those of the standard library are the operating system's, whose last bits differ.
    let exponent = |i: usize| f64::from((2 * i) as f32 / head_dim as f32);
    let frequencies: Vec<f32> = (0..half).map(|i| 1.0 / libm::pow(f64::from(base), exponent(i)) as f32).collect();
    let mut angles = [(); 2].map(|()| Vec::with_capacity(positions.len() * half));
    for position in positions {
        for frequency in &frequencies {
            let (s, c) = libm::sincosf(*position as f32 * frequency);
            angles[0].push(c);
            angles[1].push(s);
        }
    }
    angles
}
