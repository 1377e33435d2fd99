"""Expressions that are nearly right: valid ones with a few tokens or bytes changed."""
import re

TOKEN = re.compile(
    rb"""[ \t\r\n]+ | \#[^\n]* | "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*' | `[^`]*`
    | 0[xX][0-9a-fA-F_]+ | (?:[0-9]+(?:ms|[smhdwy]))+ | [0-9][0-9_]*\.?[0-9]*(?:[eE][+-]?[0-9]+)? | \.[0-9]+
    | [A-Za-z_:][A-Za-z0-9_:]* | =~ | !~ | != | == | <= | >= | . """,
    re.X | re.S,
)

# What takes the place of a token.
WORDS = (
    "sum avg count min max group stddev stdvar topk bottomk count_values quantile limitk limit_ratio by without on ignoring group_left group_right bool offset "
    "and or unless atan2 inf nan Inf NaN start end step range rate time pi scalar vector absent label_replace label_join info sort round hour "
    "histogram_quantile up foo:bar job instance __name__ le anchored smoothed fill fill_left fill_right x e1 m"
).split()
SIGNS = "( ) { } [ ] , : @ = == != =~ !~ < > <= >= + - * / % ^ # ; ! & | $ ? . .. :: ~ \\".split() + ["", " ", "\n", "\t", "\r\n", "\u00a0", "\u00e9"]
NUMBERS = (
    "0 1 -1 1.5 .5 5. 1e5 1E-5 1e 1e+ 0x 0x1F 0X1f 0xG 08 017 0b1 0o7 1_000 1__0 _1 1_ 1_.5 1._5 1e1_0 0x_1 0x1_ 1e400 1e-400 9223372036854775808 "
    "0xFFFFFFFFFFFFFFFFF Inf inf +Inf NaN nan 1i 1.2.3 1e5e5 0.0 00 000 1.e5 0x1p3 0x1.8 1_e5 1e_5"
).split()
DURATIONS = (
    "5m 1h30m 1m1h 5 0 0s 1s 5M 1.5m 1ms 1ms1s 1y1w1d1h1m1s1ms 1h1h 5mm 5m5 1e3s 100000000y 300y 9999999999999s 0x5m -5m +5m 5m30 1w2w 1month 1us 1ns 5m_ 292y "
    "5m*2 (5m) 5m+1s 2*3s 1h/2 -(5m) 5m-10m 5m/0 5m%0 2^3 5m^2 step() range() max(1m,2m) min(5,6) 1d-1d 1e3 .5 0.0001 1+ ()"
).split()
TEXTS = [
    '""', "''", "``", '"a"', "'a'", "`a`", '"\\n"', "'\\''", '"\\""', '"\\\'"', "'\\\"'", "`\\n`", '"\\x41"', '"\\xff"', '"\\u00e9"', '"\\ud800"', '"\\U0010ffff"', '"\\U00110000"',
    '"\\101"', '"\\8"', '"\\400"', '"\\377"', '"\\x4"', '"\\u12"', '"\\q"', '"\\', '"a', "'a", "`a", '"a\nb"', "`a\nb`", '"\u00e9"', '".*"', '"("', '"["', '"a{2000}"', '"\\\\d+"', '"(?i)a"',
    '"(?P<n>a)"', '"(?<n>a)"', '"\\\\pL"', '"\\\\C"', '"[[:alpha:]]"', '"a**"', '"(?=a)"', '"$1"', '"x{1,2}{3}"', '"a{,2}"', '"{"', '"\\\\Q.*\\\\E"', '"[a-\\\\d]"', '"\\\\z"', '"(?U)a+"', '"[^]a]"',
    '"[[]"', '"[a&&[b]]"', '"a{1001}"', '"a{2}{3}"', '"a*??"', '"a{1,2}?"', '"\\\\<a"', '"\\\\Z"', '"\\\\1"', '"\\\\01"', '"\\\\u0041"', '"(?x)a"', '"(?i-s:a)"', '"[b-a]"', '"[\\\\b]"',
    '"[[:word:][:^digit:]]"', '"[[:nope:]]"', '"\\\\p{Greek}"', '"\\\\p{Nope}"', '"\\\\x{110000}"', '"a||b"', '"()"', '"a)"', '"*"', '"^*"', '"(|a)*"', '"[a-z-9]"', '"\\\\_"', '"\\\\e"',
]  # fmt: skip
COMMENTS = ["#", "# x\n", "#\n", "#'", " # ) ]\n ", "\n#\"\n", "#\r"]
# Around a whole expression.
NESTS = [
    "({})", "-{}", "+{}", "--{}", "-({})", "{}[5m]", "({})[5m:1m]", "{}[5m:]", "{} offset 5m", "{} offset -5m", "{} @ 1", "{} @ start()", "{} @ end() offset 1s", "sum({})", "sum by (job) ({})", "topk(1, {})",
    "rate({})", "abs({})", "{} + 1", "1 ^ {}", "{} > bool 1", "{} and {}", "{} * on (job) group_left {}", "scalar({})", "vector({})", "absent_over_time({})", "label_replace({}, \"a\", \"b\", \"c\", \"d\")",
    "{} ^ 2 ^ 3", "- {} ^ 2", "{} == 1", "{} unless ignoring () {}", "quantile(0.5, {}) by (job)", "count_values(\"a\", {})", "{}{{job=\"a\"}}", "{} offset 1m offset 2m", "{}[1m] offset 1m @ 5", "{} # end", "{}\n",
    "sum({},)", "max_over_time({}[5m:1m] @ end())", "time() - {}", "({}) or ({})", "-{}[5m]", "{} % {}", "{}, {}", "{} {}", "info({})", "info({}, {{a=\"b\"}})", "sort_by_label({}, \"a\", \"b\")", "round({}, 5)",
]  # fmt: skip


def tokens(text):
    return TOKEN.findall(text)


class Mutator:
    """Changes expressions; all chances are taken from `rng`."""

    def __init__(self, rng):
        self.rng = rng

    def mutated(self, text):
        """An expression, as bytes, that is one to four changes away from a valid one."""
        out = text.encode()
        for _ in range(self.rng.choices([1, 2, 3, 4], [6, 3, 2, 1])[0]):
            change = self.rng.choices([self.token, self.bytes, self.nest, self.case, self.comment], [10, 3, 3, 2, 1])[0]
            out = change(out)
        return out[:2000]

    def piece(self):
        kind = self.rng.choices([WORDS, SIGNS, NUMBERS, DURATIONS, TEXTS], [5, 5, 2, 2, 2])[0]
        return self.rng.choice(kind).encode()

    def token(self, text):
        rng, all_ = self.rng, tokens(text)
        visible = [at for at, token in enumerate(all_) if token.strip()] or [0]
        if not all_:
            return self.piece()
        at, how = rng.choice(visible), rng.randrange(8)
        if how == 0:
            del all_[at]
        elif how == 1:
            all_.insert(at, all_[at])
        elif how == 2:
            other = rng.choice(visible)
            all_[at], all_[other] = all_[other], all_[at]
        elif how == 3:
            all_.insert(at, self.piece())
        elif how == 4:
            all_[at] = self.alike(all_[at])
        elif how == 5:
            end = rng.randrange(at, len(all_))
            del all_[at : min(end, at + 6)]
        elif how == 6:
            blanks = [i for i, token in enumerate(all_) if not token.strip()]
            if blanks:
                all_[rng.choice(blanks)] = rng.choice([b"", b"  ", b"\n", b"\t", b"\r", b"\v", b"\f"])
        else:
            all_[at] = self.piece()
        return b"".join(all_)

    def alike(self, token):
        """Another token of the same kind."""
        first = token[:1]
        if first in (b'"', b"'", b"`"):
            return self.rng.choice(TEXTS).encode()
        if first.isdigit() or first == b".":
            return self.rng.choice(NUMBERS + DURATIONS).encode()
        if first.isalpha() or first in (b"_", b":"):
            return self.rng.choice(WORDS).encode()
        return self.rng.choice(SIGNS).encode()

    def bytes(self, text):
        rng, out = self.rng, bytearray(text)
        at, how = rng.randrange(len(out) + 1), rng.randrange(4)
        byte = rng.choice([rng.randrange(256), rng.randrange(32, 127), rng.randrange(32, 127), rng.choice(b"\"'`\\[](){}:,=~!@#0eE_.-+ ")])
        if how == 0:
            out.insert(at, byte)
        elif at < len(out):
            if how == 1:
                del out[at]
            elif how == 2:
                out[at] = byte
            else:
                del out[at:]
        return bytes(out)

    def nest(self, text):
        form = self.rng.choice(NESTS)
        return form.encode().replace(b"{{", b"\1").replace(b"}}", b"\2").replace(b"{}", text).replace(b"\1", b"{").replace(b"\2", b"}")

    def case(self, text):
        all_ = tokens(text)
        words = [at for at, token in enumerate(all_) if token[:1].isalpha()]
        if words:
            at = self.rng.choice(words)
            all_[at] = self.rng.choice([bytes.upper, bytes.title, bytes.swapcase, bytes.lower])(all_[at])
        return b"".join(all_)

    def comment(self, text):
        all_ = tokens(text)
        all_.insert(self.rng.randrange(len(all_) + 1), self.rng.choice(COMMENTS).encode())
        return b"".join(all_)
