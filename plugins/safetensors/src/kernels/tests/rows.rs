//! What is done to one row: norms, activations, rounding.

use super::*;

#[test]
fn norms_and_gates_are_right_in_every_instance() {
    for level in levels() {
        let kernels = Kernels::of(level);
        for length in [1, 15, 16, 40, 576] {
            let (row, weight) = (noise(4, length), noise(5, length));
            let mut out = vec![0.0; length];
            kernels.rms_norm(&row, &weight, 1e-5, &mut out);
            let mean = row.iter().map(|x| x * x).sum::<f32>() / length as f32;
            for i in 0..length {
                let expected = row[i] / (mean + 1e-5).sqrt() * weight[i];
                assert!((out[i] - expected).abs() < 1e-5, "{level}, {length}: {} for {expected}", out[i]);
            }
            let mut again = row.clone();
            kernels.rms_norm_in_place(&mut again, &weight, 1e-5);
            assert_eq!(again, out);
            for activation in [Activation::Silu, Activation::Gelu, Activation::GeluTanh] {
                let x: Vec<f32> = row.iter().map(|x| x * 20.0).collect();
                let (mut gated, mut plain) = (x.clone(), x.clone());
                kernels.gate(activation, &mut gated, &weight);
                kernels.activate(activation, &mut plain);
                for i in 0..length {
                    let (expected, weight) = (activated(activation, f64::from(x[i])), f64::from(weight[i]));
                    let near = |found: f32, expected: f64| (f64::from(found) - expected).abs() < 1e-5;
                    assert!(near(gated[i], expected * weight), "{level}, {activation:?}({}) gated", x[i]);
                    assert!(near(plain[i], expected), "{level}, {activation:?}({})", x[i]);
                }
            }
        }
    }
}

fn activated(activation: Activation, y: f64) -> f64 {
    match activation {
        Activation::Silu => y / (1.0 + (-y).exp()),
        Activation::Gelu => 0.5 * y * (1.0 + error_function(y / 2f64.sqrt())),
        Activation::GeluTanh => {
            0.5 * y * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (y + 0.044715 * y * y * y)).tanh())
        }
    }
}

/// By its Taylor series, as far as that can be summed.
fn error_function(z: f64) -> f64 {
    if z.abs() > 4.5 {
        return z.signum();
    }
    let (mut term, mut sum) = (z, z);
    for n in 1..120 {
        term *= -z * z / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

#[test]
fn layer_norms_are_right_in_every_instance() {
    for level in levels() {
        let kernels = Kernels::of(level);
        for length in [1, 15, 16, 40, 576] {
            let (weight, bias) = (noise(5, length), noise(6, length));
            // Far from a mean of nought, so that it must be taken off first.
            let row: Vec<f32> = noise(4, length).iter().map(|x| x + 30.0).collect();
            let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / length as f64;
            let variance = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / length as f64;
            for bias in [None, Some(bias.as_slice())] {
                let mut out = vec![0.0; length];
                kernels.layer_norm(&row, (&weight, bias), 1e-5, &mut out);
                for i in 0..length {
                    let normed = (f64::from(row[i]) - mean) / (variance + 1e-5).sqrt();
                    let expected = normed * f64::from(weight[i]) + bias.map_or(0.0, |b| f64::from(b[i]));
                    let difference = (f64::from(out[i]) - expected).abs();
                    assert!(difference < 1e-4, "{level}, {length}: {} for {expected}", out[i]);
                }
                let mut again = row.clone();
                kernels.layer_norm_in_place(&mut again, (&weight, bias), 1e-5);
                assert_eq!(again, out);
            }
        }
    }
}

#[test]
fn narrowing_rounds_to_nearest_and_to_even() {
    let floats = [
        0.0,
        -0.0,
        1.0,
        1.0 + 1.0 / 256.0,
        1.0 + 1.0 / 512.0,
        1.0 + 3.0 / 512.0,
        f32::INFINITY,
        f32::NAN,
        3.4e38,
        -1e-40,
    ];
    for level in levels() {
        let mut narrow = [0; 10];
        Kernels::of(level).narrow(&floats, &mut narrow);
        let expected = floats.map(|float| half::bf16::from_f32(float).to_bits());
        assert_eq!(narrow, expected, "{level}");
    }
}
