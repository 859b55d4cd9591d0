//! Feed-forward networks of experts (Shazeer et al. 2017, arXiv:1701.06538): a router picks a few for each row.
//!
//! Rows are sorted by expert, so that each expert's matrices are read once a step, by all rows that go through it.

#![expect(unsafe_code, reason = "threads write disjoint parts of one buffer")]

use std::ops::Range;

use super::forward::Computer;
use super::weights::{Expert, ExpertWeights, SharedExpert};
use super::workspace::Workspace;
use crate::config::{Decoder, Experts};
use crate::kernels::{Forms, Operand, Output};
use crate::pool::Shared;

/// Buffers of a step. A place is one row at one of its experts; there are `rows * used` of them.
pub(super) struct Routing {
    /// What each expert is worth to each row: `[rows][experts]`.
    scores: Vec<f32>,
    /// Of each row its experts and their weights: `[rows][used]`, the experts in order.
    chosen: Vec<Choice>,
    /// Which row each is of: `[places]`, sorted by expert.
    places: Vec<usize>,
    /// Each expert's next place, while they are sorted.
    next: Vec<usize>,
    /// Experts that some row goes through, and their places.
    visited: Vec<(usize, Range<usize>)>,
    /// `[places][hidden]`
    routed: Operand,
    /// `[places][intermediate]`
    gate: Vec<f32>,
    up: Vec<f32>,
    gated: Operand,
    /// `[places][hidden]`
    answers: Vec<f32>,
    shared: Option<SharedBuffers>,
}

/// Of the expert that every row goes through.
struct SharedBuffers {
    /// `[rows][width]`
    gate: Vec<f32>,
    up: Vec<f32>,
    gated: Operand,
    /// `[rows][hidden]`
    answers: Vec<f32>,
    /// `[rows]`
    weights: Vec<f32>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Choice {
    expert: usize,
    weight: f32,
    /// Where the expert's answer will be.
    place: usize,
}

impl Routing {
    pub(super) fn new(decoder: &Decoder, experts: Experts, rows: usize, forms: Forms) -> Self {
        let Experts { count, used, intermediate, .. } = experts;
        let places = rows * used;
        Routing {
            scores: vec![0.0; rows * count],
            chosen: vec![Choice::default(); places],
            places: vec![0; places],
            next: Vec::with_capacity(count),
            visited: Vec::with_capacity(count),
            routed: Operand::new(places, decoder.hidden, forms),
            gate: vec![0.0; places * intermediate],
            up: vec![0.0; places * intermediate],
            gated: Operand::new(places, intermediate, forms),
            answers: vec![0.0; places * decoder.hidden],
            shared: experts.shared.map(|width| SharedBuffers {
                gate: vec![0.0; rows * width],
                up: vec![0.0; rows * width],
                gated: Operand::new(rows, width, forms),
                answers: vec![0.0; rows * decoder.hidden],
                weights: vec![0.0; rows],
            }),
        }
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        let floats = [&self.scores, &self.gate, &self.up, &self.answers];
        floats.into_iter().map(|buffer| buffer.len() * 4).sum::<usize>()
            + self.chosen.len() * size_of::<Choice>()
            + self.places.len() * size_of::<usize>()
            + self.routed.bytes()
            + self.gated.bytes()
            + self.shared.as_ref().map_or(0, |shared| {
                let floats = [&shared.gate, &shared.up, &shared.answers, &shared.weights];
                floats.into_iter().map(|buffer| buffer.len() * 4).sum::<usize>() + shared.gated.bytes()
            })
    }

    /// About the bytes, before there is one.
    pub(super) fn estimate(decoder: &Decoder, rows: usize) -> usize {
        let Some(Experts { count, used, intermediate, shared, .. }) = decoder.experts else { return 0 };
        let common = shared.map_or(0, |width| 4 * (3 * width + decoder.hidden) + 2 * width);
        let place = 4 * (2 * decoder.hidden + 3 * intermediate) + 2 * (decoder.hidden + intermediate);
        rows * (4 * count + common + used * (place + size_of::<Choice>() + size_of::<usize>()))
    }

    /// Sorts the first rows' choices by expert.
    fn sort(&mut self, experts: Experts, rows: usize) {
        let Experts { count, used, .. } = experts;
        let chosen = &mut self.chosen[..rows * used];
        self.next.clear();
        self.next.resize(count, 0);
        chosen.iter().for_each(|choice| self.next[choice.expert] += 1);
        self.visited.clear();
        let mut place = 0;
        for (expert, next) in self.next.iter_mut().enumerate() {
            let places = place..place + *next;
            (*next, place) = (places.start, places.end);
            if !places.is_empty() {
                self.visited.push((expert, places));
            }
        }
        for (i, choice) in chosen.iter_mut().enumerate() {
            choice.place = self.next[choice.expert];
            self.next[choice.expert] += 1;
            self.places[choice.place] = i / used;
        }
    }
}

fn softmax(scores: &mut [f32]) {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    scores.iter_mut().for_each(|score| *score = (*score - largest).exp());
    let sum: f32 = scores.iter().sum();
    scores.iter_mut().for_each(|score| *score /= sum);
}

/// Takes the largest scores away, of equal ones the first, and answers them by the experts' numbers.
fn pick(scores: &mut [f32], chosen: &mut [Choice]) {
    for choice in &mut *chosen {
        let larger = |best: usize, expert: usize| if scores[expert] > scores[best] { expert } else { best };
        let expert = (0..scores.len()).reduce(larger).unwrap_or(0);
        let weight = std::mem::replace(&mut scores[expert], f32::NEG_INFINITY);
        *choice = Choice { expert, weight, place: 0 };
    }
    chosen.sort_unstable_by_key(|choice| choice.expert);
}

impl Computer<'_> {
    /// `stream += Σ weight * expert(x)` over each row's experts, of the normed stream.
    pub(super) fn experts(&mut self, weights: &ExpertWeights, workspace: &mut Workspace, rows: usize) {
        let Some(experts) = self.decoder.experts else { return };
        let Workspace { stream, normed, routing, .. } = workspace;
        let Some(routing) = routing else { return };
        let scores = Shared::new(&mut routing.scores);
        self.project((normed, rows), &[(&weights.router, 0)], (&scores, experts.count));
        self.choose(experts, routing, rows);
        routing.sort(experts, rows);
        let places = rows * experts.used;
        self.gather(normed, routing, places);
        self.inside_experts(&weights.experts, routing, experts.intermediate);
        routing.gated.finish(self.kernels, self.pool, places);
        self.outside(&weights.experts, routing);
        self.collect(routing, stream, (rows, experts.used));
        if let Some((weights, buffers)) = weights.shared.as_ref().zip(routing.shared.as_mut()) {
            self.shared_expert(weights, buffers, (normed, rows), stream);
        }
    }

    /// Picks each row's experts by their scores.
    fn choose(&mut self, experts: Experts, routing: &mut Routing, rows: usize) {
        let Experts { count, used, normalised, .. } = experts;
        let (scores, chosen) = (Shared::new(&mut routing.scores), Shared::new(&mut routing.chosen));
        self.pool.split(rows, 1, |rows| {
            for row in rows {
                // SAFETY: each row is one thread's.
                let (scores, chosen) = unsafe {
                    (scores.slice(row * count..(row + 1) * count), chosen.slice(row * used..(row + 1) * used))
                };
                softmax(scores);
                pick(scores, chosen);
                if normalised {
                    let sum: f32 = chosen.iter().map(|choice| choice.weight).sum();
                    chosen.iter_mut().for_each(|choice| choice.weight /= sum);
                }
            }
        });
    }

    /// Copies each place's row.
    fn gather(&mut self, normed: &Operand, routing: &mut Routing, places: usize) {
        let (hidden, kernels) = (self.decoder.hidden, self.kernels);
        let Routing { routed, places: of, .. } = routing;
        let shared = routed.share();
        self.pool.split(places, 1, |range| {
            for place in range {
                let row = normed.row(of[place]);
                // SAFETY: each place is one thread's.
                unsafe { shared.fill(kernels, place, 0..hidden, |to| to.copy_from_slice(row)) };
            }
        });
        routed.finish(kernels, self.pool, places);
    }

    /// `gated = activation(W_gate x) * W_up x` at every place.
    fn inside_experts(&mut self, experts: &[Expert], routing: &mut Routing, width: usize) {
        let (kernels, activation) = (self.kernels, self.decoder.activation);
        let Routing { visited, routed, gate, up, gated, .. } = routing;
        let (gate, up, shared) = (Shared::new(gate), Shared::new(up), gated.share());
        self.for_parts(visited, width, |expert, places, columns| {
            let Expert { gate: first, up: second, .. } = &experts[expert];
            for (projection, to) in [(first, &gate), (second, &up)] {
                let out = Output { to, stride: width, column: 0, add: false, scale: 1.0 };
                let rows = (&*routed, places.clone());
                // SAFETY: these columns of these places are one thread's.
                unsafe { kernels.multiply_rows(rows, projection.parts(), columns.clone(), &out) };
            }
            for place in places {
                let at = place * width + columns.start..place * width + columns.end;
                // SAFETY: as above.
                unsafe {
                    let (gate, up) = (gate.slice(at.clone()), up.slice(at));
                    shared.fill(kernels, place, columns.clone(), |to| {
                        to.copy_from_slice(gate);
                        kernels.gate(activation, to, up);
                    });
                }
            }
        });
    }

    /// `answers = W_down gated` at every place.
    fn outside(&mut self, experts: &[Expert], routing: &mut Routing) {
        let (kernels, hidden) = (self.kernels, self.decoder.hidden);
        let Routing { visited, gated, answers, .. } = routing;
        let answers = Shared::new(answers);
        self.for_parts(visited, hidden, |expert, places, columns| {
            let out = Output { to: &answers, stride: hidden, column: 0, add: false, scale: 1.0 };
            // SAFETY: these columns of these places are one thread's.
            unsafe {
                kernels.multiply_rows((&*gated, places), experts[expert].down.parts(), columns, &out);
            }
        });
    }

    /// Adds each row's answers to its stream, always in the same order.
    fn collect(&mut self, routing: &Routing, stream: &mut [f32], (rows, used): (usize, usize)) {
        let (hidden, scale) = (self.decoder.hidden, self.decoder.scales.residual);
        let stream = Shared::new(stream);
        self.pool.split(rows, 1, |rows| {
            for row in rows {
                // SAFETY: each row is one thread's.
                let stream = unsafe { stream.slice(row * hidden..(row + 1) * hidden) };
                for choice in &routing.chosen[row * used..(row + 1) * used] {
                    let answer = &routing.answers[choice.place * hidden..(choice.place + 1) * hidden];
                    let weight = choice.weight * scale;
                    stream.iter_mut().zip(answer).for_each(|(stream, x)| *stream += weight * x);
                }
            }
        });
    }

    /// `stream += logistic(w x) * expert(x)` of the expert that every row goes through.
    fn shared_expert(
        &mut self,
        weights: &SharedExpert,
        buffers: &mut SharedBuffers,
        (normed, rows): (&Operand, usize),
        stream: &mut [f32],
    ) {
        let (hidden, scale) = (self.decoder.hidden, self.decoder.scales.residual);
        let SharedBuffers { gate, up, gated, answers, weights: of_rows } = buffers;
        self.inside(&weights.network, (normed, rows), (gate, up, gated));
        gated.finish(self.kernels, self.pool, rows);
        self.project((gated, rows), &[(&weights.network.down, 0)], (&Shared::new(answers), hidden));
        self.project((normed, rows), &[(&weights.gate, 0)], (&Shared::new(of_rows), 1));
        let stream = Shared::new(stream);
        self.pool.split(rows, 1, |rows| {
            for row in rows {
                let place = row * hidden..(row + 1) * hidden;
                let weight = scale / (1.0 + (-of_rows[row]).exp());
                // SAFETY: each row is one thread's.
                let stream = unsafe { stream.slice(place.clone()) };
                stream.iter_mut().zip(&answers[place]).for_each(|(stream, x)| *stream += weight * x);
            }
        });
    }

    /// Runs `work` over every visited expert's places and all of its columns, in parts that are about even.
    fn for_parts(
        &mut self,
        visited: &[(usize, Range<usize>)],
        columns: usize,
        work: impl Fn(usize, Range<usize>, Range<usize>) + Sync,
    ) {
        let wanted = (self.pool.threads() * PARTS_PER_THREAD).div_ceil(visited.len().max(1));
        let part = columns.div_ceil(wanted).next_multiple_of(crate::checkpoint::PANEL);
        let parts = columns.div_ceil(part);
        self.pool.run(visited.len() * parts, |piece| {
            let (expert, places) = &visited[piece / parts];
            let first = piece % parts * part;
            work(*expert, places.clone(), first..(first + part).min(columns));
        });
    }
}

/// Parts that each thread gets about.
const PARTS_PER_THREAD: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_are_picked_and_of_equals_the_first() {
        let mut chosen = [Choice::default(); 3];
        pick(&mut [0.1, 0.3, 0.3, 0.05, 0.3, 0.2], &mut chosen);
        assert_eq!(chosen.map(|choice| (choice.expert, choice.weight)), [(1, 0.3), (2, 0.3), (4, 0.3)]);
        // Whatever is picked of what are no numbers, nothing falls.
        pick(&mut [f32::NAN; 3], &mut chosen);
        assert!(chosen.iter().all(|choice| choice.expert < 3));
    }
}
