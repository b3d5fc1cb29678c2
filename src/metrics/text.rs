//! The two text forms of metrics.
//!
//! Owns [`Family`], what is said of a metric once, and [`Exposition`], which writes. Prometheus text is version 0.0.4;
//! OpenMetrics is version 1.0.0. Invariants: all samples of a family stand behind its head, and none elsewhere; a label's value is
//! escaped, whatever it holds.

use core::fmt::{self, Write};

use crate::limits::METRICS_BOUNDS_MICROS;
use crate::metrics::histogram::{Exemplar, Sum};

/// Which of the two forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text, version 0.0.4.
    Prometheus,
    /// OpenMetrics, version 1.0.0.
    OpenMetrics,
}

impl Format {
    /// Its media type.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Counts by bounds.
    Histogram,
    /// What it says stands in its labels.
    Info,
}

impl Kind {
    /// Its name in OpenMetrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }

    /// What the names of its samples end in.
    const fn suffix(self) -> &'static str {
        match self {
            Self::Counter => "_total",
            Self::Info => "_info",
            Self::Gauge | Self::Histogram => "",
        }
    }
}

/// A metric.
#[derive(Debug)]
pub struct Family {
    /// Its name, without what the names of its samples end in.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What it says.
    pub help: &'static str,
    /// Its labels, in their order.
    pub labels: &'static [&'static str],
}

impl Family {
    /// What it is counted in: `seconds` or `bytes`, if its name says so.
    #[must_use]
    pub fn unit(&self) -> Option<&'static str> {
        let (_, last) = self.name.rsplit_once('_')?;
        ["seconds", "bytes"].into_iter().find(|unit| *unit == last)
    }

    /// The name of its samples; of a histogram, what those begin with.
    #[must_use]
    pub fn sample_name(&self) -> String {
        format!("{}{}", self.name, self.kind.suffix())
    }
}

/// The values of a family's labels, in their order.
pub type Labels<'a> = &'a [&'a str];

/// The value of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number.
    Whole(u64),
    /// A time, in microseconds, which is written in seconds.
    Micros(u64),
    /// Parts of a million.
    Millionths(u64),
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self::Whole(u64::try_from(value).unwrap_or(u64::MAX))
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Whole(u64::from(value))
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Whole(value) => write!(f, "{value}"),
            Self::Micros(millionths) | Self::Millionths(millionths) => {
                write!(f, "{}.{:06}", millionths / 1_000_000, millionths % 1_000_000)
            }
        }
    }
}

/// Writes families and their samples.
pub struct Exposition<'a> {
    target: &'a mut dyn Write,
    format: Format,
}

impl<'a> Exposition<'a> {
    /// What writes this form to `target`.
    pub fn new(target: &'a mut dyn Write, format: Format) -> Self {
        Self { target, format }
    }

    /// Writes a family of one sample without labels.
    ///
    /// # Errors
    /// The target has no room.
    pub fn one(&mut self, family: &Family, value: impl Into<Value>) -> fmt::Result {
        self.head(family)?;
        self.sample(family, &[], value)
    }

    /// Writes what is said of a family once.
    ///
    /// # Errors
    /// The target has no room.
    pub fn head(&mut self, family: &Family) -> fmt::Result {
        let Family { name, kind, help, .. } = family;
        match self.format {
            Format::Prometheus => {
                let suffix = kind.suffix();
                let kind = if *kind == Kind::Info { Kind::Gauge } else { *kind };
                writeln!(self.target, "# HELP {name}{suffix} {help}")?;
                writeln!(self.target, "# TYPE {name}{suffix} {}", kind.name())
            }
            Format::OpenMetrics => {
                writeln!(self.target, "# TYPE {name} {}", kind.name())?;
                if let Some(unit) = family.unit() {
                    writeln!(self.target, "# UNIT {name} {unit}")?;
                }
                writeln!(self.target, "# HELP {name} {help}")
            }
        }
    }

    /// Writes a sample.
    ///
    /// # Errors
    /// The target has no room.
    pub fn sample(&mut self, family: &Family, values: Labels<'_>, value: impl Into<Value>) -> fmt::Result {
        write!(self.target, "{}{}", family.name, family.kind.suffix())?;
        self.labels(family, values, None)?;
        writeln!(self.target, " {}", value.into())
    }

    /// Writes the samples of a histogram.
    ///
    /// # Errors
    /// The target has no room.
    pub fn histogram(&mut self, family: &Family, values: Labels<'_>, sum: &Sum) -> fmt::Result {
        let mut below = 0;
        let bounds = METRICS_BOUNDS_MICROS.iter().map(|bound| Some(*bound)).chain([None]);
        for ((bound, count), exemplar) in bounds.zip(sum.buckets).zip(&sum.exemplars) {
            below += count;
            write!(self.target, "{}_bucket", family.name)?;
            self.labels(family, values, Some(bound))?;
            write!(self.target, " {below}")?;
            self.exemplar(exemplar.as_ref())?;
            self.target.write_char('\n')?;
        }
        for (suffix, value) in [("_sum", Value::Micros(sum.micros)), ("_count", Value::Whole(below))] {
            write!(self.target, "{}{suffix}", family.name)?;
            self.labels(family, values, None)?;
            writeln!(self.target, " {value}")?;
        }
        Ok(())
    }

    /// Writes the end.
    ///
    /// # Errors
    /// The target has no room.
    pub fn end(&mut self) -> fmt::Result {
        match self.format {
            Format::Prometheus => Ok(()),
            Format::OpenMetrics => self.target.write_str("# EOF\n"),
        }
    }

    fn labels(&mut self, family: &Family, values: Labels<'_>, bound: Option<Option<u64>>) -> fmt::Result {
        let mut before = '{';
        for (name, value) in family.labels.iter().zip(values) {
            write!(self.target, "{before}{name}=\"{}\"", Escaped(value))?;
            before = ',';
        }
        match bound {
            None if before == '{' => return Ok(()),
            None => {}
            Some(None) => write!(self.target, "{before}le=\"+Inf\"")?,
            Some(Some(micros)) => write!(self.target, "{before}le=\"{}\"", Bound(micros))?,
        }
        self.target.write_char('}')
    }

    fn exemplar(&mut self, exemplar: Option<&Exemplar>) -> fmt::Result {
        let Some(Exemplar { id, micros, at_millis }) =
            exemplar.filter(|_| self.format == Format::OpenMetrics)
        else {
            return Ok(());
        };
        let (seconds, millis) = (at_millis / 1_000, at_millis % 1_000);
        write!(self.target, " # {{request_id=\"{id}\"}} {} {seconds}.{millis:03}", Value::Micros(*micros))
    }
}

impl fmt::Debug for Exposition<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exposition").field("format", &self.format).finish_non_exhaustive()
    }
}

/// A label's value as it is written.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// A bound in seconds, with a point and no more digits than it needs.
struct Bound(u64);

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = Value::Micros(self.0).to_string();
        let short = text.trim_end_matches('0');
        f.write_str(short)?;
        if short.ends_with('.') { f.write_char('0') } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::histogram::Histogram;
    use crate::model::RequestId;

    const TIMES: Family =
        Family { name: "q_time_seconds", kind: Kind::Histogram, help: "Times.", labels: &["route"] };
    const COUNT: Family = Family { name: "q_things", kind: Kind::Counter, help: "Things.", labels: &["of"] };
    const BUILD: Family = Family { name: "q_build", kind: Kind::Info, help: "Build.", labels: &["of"] };

    fn written(format: Format, write: impl FnOnce(&mut Exposition<'_>) -> fmt::Result) -> String {
        let mut text = String::new();
        let mut exposition = Exposition::new(&mut text, format);
        write(&mut exposition).and_then(|()| exposition.end()).unwrap();
        text
    }

    #[test]
    fn each_form_has_its_own_head_and_end() {
        let all = |exposition: &mut Exposition<'_>| {
            exposition.head(&COUNT)?;
            exposition.sample(&COUNT, &["a\\b\"c\nd"], 7_u64)?;
            exposition.head(&BUILD)?;
            exposition.sample(&BUILD, &["1"], true)
        };
        assert_eq!(
            written(Format::Prometheus, all),
            "# HELP q_things_total Things.\n# TYPE q_things_total counter\nq_things_total{of=\"a\\\\b\\\"c\\nd\"} 7\n\
             # HELP q_build_info Build.\n# TYPE q_build_info gauge\nq_build_info{of=\"1\"} 1\n"
        );
        assert_eq!(
            written(Format::OpenMetrics, all),
            "# TYPE q_things counter\n# HELP q_things Things.\nq_things_total{of=\"a\\\\b\\\"c\\nd\"} 7\n\
             # TYPE q_build info\n# HELP q_build Build.\nq_build_info{of=\"1\"} 1\n# EOF\n"
        );
    }

    #[test]
    fn buckets_add_up_and_exemplars_stand_in_openmetrics_alone() {
        let histogram = Histogram::new();
        let id = RequestId::new(1, 2);
        histogram.count(20);
        histogram.count_request(&Exemplar { id, micros: 1_500_000, at_millis: 12_034 });
        histogram.count(99_000_000);
        let mut sum = Sum::default();
        sum.add(&histogram);
        let all = |exposition: &mut Exposition<'_>| exposition.histogram(&TIMES, &["/a"], &sum);
        let plain = written(Format::Prometheus, all);
        for line in [
            "q_time_seconds_bucket{route=\"/a\",le=\"0.000025\"} 1\n",
            "q_time_seconds_bucket{route=\"/a\",le=\"1.0\"} 1\n",
            "q_time_seconds_bucket{route=\"/a\",le=\"2.5\"} 2\n",
            "q_time_seconds_bucket{route=\"/a\",le=\"10.0\"} 2\n",
            "q_time_seconds_bucket{route=\"/a\",le=\"+Inf\"} 3\n",
            "q_time_seconds_sum{route=\"/a\"} 100.500020\n",
            "q_time_seconds_count{route=\"/a\"} 3\n",
        ] {
            assert!(plain.contains(line), "{line}{plain}");
        }
        let open = written(Format::OpenMetrics, all);
        let told = format!("le=\"2.5\"}} 2 # {{request_id=\"{id}\"}} 1.500000 12.034\n");
        assert!(open.contains(&told) && open.matches(" # ").count() == 1, "{open}");
    }

    #[test]
    fn a_bound_is_written_in_seconds() {
        for (micros, text) in
            [(25, "0.000025"), (500_000, "0.5"), (1_000_000, "1.0"), (10_000_000, "10.0"), (0, "0.0")]
        {
            assert_eq!(Bound(micros).to_string(), text);
        }
    }
}
