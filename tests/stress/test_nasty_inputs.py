"""Nasty files: each gives the right triples, or an error with its place and a remedy."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kgtool.data.loaders import Reading, Triples, read_triples
from kgtool.errors import ConfigError, DataError, KGToolError
from kgtool.storage import compression

ONE = [("a", "r", "b")]
TWO = [("a", "r", "b"), ("b", "s", "c")]
TSV = b"a\tr\tb\nb\ts\tc\n"
LONG = "x" * 10_000_000


def zst(data: bytes) -> bytes:
    packed: bytes = pa.compress(data, codec="zstd", asbytes=True)
    return packed


def parquet(**columns: Any) -> bytes:
    file = io.BytesIO()
    pd.DataFrame(columns).to_parquet(file, index=False)
    return file.getvalue()


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def labelled(found: Triples) -> list[tuple[str, str, str]]:
    names = found.vocabulary
    return [
        (names.entities[h], names.relations[r], names.entities[t])
        for h, r, t in found.triples.tolist()
    ]


NAMED = {"head": ["a", "b"], "relation": ["r", "s"], "tail": ["b", "c"]}
PREFIX = b"@prefix e: <http://e/> .\n"

# Name, bytes, what the caller says, the triples.
RDF = (
    b'<?xml version="1.0"?>\n<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" '
    b'xmlns:e="http://e/"><rdf:Description rdf:about="http://e/a"><e:r rdf:resource="http://e/b"/>'
    b"</rdf:Description></rdf:RDF>"
)
SOUND: list[Any] = [
    ("x.tsv", b"\xef\xbb\xbf" + TSV, {}, TWO),
    ("x.tsv", b"a\tr\tb\r\nb\ts\tc\r\n\r\n", {}, TWO),
    ("x.tsv", b"NA\tnull\t1e5\n", {}, [("NA", "null", "1e5")]),
    ("x.tsv", b'"a\t""\t\'b"\n', {}, [('"a', '""', "'b\"")]),
    ("x.tsv", b'head\tRelation\ttail\n"a\tr\tb\n', {}, [('"a', "r", "b")]),
    ("x.tsv", b"TAIL\thead\trelation\nb\ta\tr\n", {}, ONE),
    ("x.tsv", b"head\trelation\ttail\n", {"header": False}, [("head", "relation", "tail")]),
    ("x.tsv", b"gene\tdoes\tgene2\na\tr\tb\n", {"header": True}, ONE),
    ("x.tsv", b"r\tb\t0.5\ta\n", {"columns": ("4", "1", "2")}, ONE),
    ("x.tsv", b"w\tb\tr\ta\n1\tB\tR\tA\n", {"columns": ("a", "r", "b")}, [("A", "R", "B")]),
    ("x.tsv", b"3\t1\t2\n", {"columns": ("2", "3", "1")}, [("1", "2", "3")]),
    ("x.tsv", b"a\tr\tb\t\nb\ts\tc\t\n", {"columns": ("1", "2", "3")}, TWO),
    ("x.tsv", b"a\tr\tb\t\xff\n", {"columns": ("1", "2", "3")}, None),
    ("x.tsv", f"{LONG}\tr\tb\n".encode(), {}, [(LONG, "r", "b")]),
    ("x.TSV.GZ", gzip.compress(TSV, mtime=0), {}, TWO),
    ("x.txt.gz", gzip.compress(TSV[:6], mtime=0) + gzip.compress(TSV[6:], mtime=0), {}, TWO),
    ("x.csv", b"a,r,b\nb,s,c\n", {}, TWO),
    ("x.csv", b'"a","r","b"\r\nb,s,c\r\n', {}, TWO),
    ("x.csv", b'"a, ""x""",r,b\n', {}, [('a, "x"', "r", "b")]),
    ("x.csv", b"NA,null,1e5\n", {}, [("NA", "null", "1e5")]),
    ("x.csv", b'"NA","",b\n', {}, None),
    ("x.csv", b"\xef\xbb\xbfsource,relation,target\na,r,b\n", {}, ONE),
    ("x.csv", b'w,"note\nof two",h,r,t\n1,"p\nq",a,r,b\n', {"columns": ("h", "r", "t")}, ONE),
    ("x.csv", b"a;r;b\nb;s;c\n", {"delimiter": ";"}, TWO),
    ("x.csv", 'a¦r¦b\n"b"¦s¦c\n'.encode(), {"delimiter": "¦"}, TWO),
    ("x.txt", b"a r b\nb s c\n", {"delimiter": " "}, TWO),
    ("x.csv", TSV, {"delimiter": "\t"}, TWO),
    ("x.tsv", b'"a"\tr\tb\n', {"format": "csv", "delimiter": "\t"}, ONE),
    ("x.dat", TSV, {"format": "tsv"}, TWO),
    ("x.csv", f'"{LONG[:100_000]}",r,b\n'.encode(), {}, [(LONG[:100_000], "r", "b")]),
    ("x.parquet", parquet(**NAMED), {}, TWO),
    ("x.parquet", parquet(t=["b"], h=["a"], r=["r"]), {}, ONE),
    ("x.parquet", parquet(x=["a"], y=["r"], z=["b"]), {"columns": ("x", "y", "z")}, ONE),
    ("x.parquet", parquet(s=[1], p=["r"], o=[-2]), {}, [("1", "r", "-2")]),
    ("x.pq.zst", zst(parquet(**NAMED)), {}, TWO),
    ("x.parquet", parquet(**{**NAMED, "head": pd.Categorical(["a", "b"])}), {}, TWO),
    ("x.jsonl", b'["a", "r", "b"]\n\n["b", "s", "c"]', {}, TWO),
    ("x.jsonl", b'{"t": "b", "r": "r", "h": "a"}\n{"h": "b", "r": "s", "t": "c"}\n', {}, TWO),
    ("x.jsonl", b'{"x":"b","y":"r","z":"a","w":1}\n', {"columns": ("z", "y", "x")}, ONE),
    (
        "x.jsonl",
        b'["a", "r", 12345678901234567890123]\n',
        {},
        [("a", "r", "12345678901234567890123")],
    ),
    ("x.jsonl", b'["\\u00e9", "NA", "null"]\r\n', {}, [("é", "NA", "null")]),
    # what files of other tools and habits hold
    ("x.csv", b"a;r;b\nb;s;c\n", {}, TWO),
    ("x.csv", b'"x; y";r;"a, b, c"\nb;s;c\n', {}, [("x; y", "r", "a, b, c"), ("b", "s", "c")]),
    ("x.csv", b"a, b, c;r;b\nb;s;c\n", {}, [("a, b, c", "r", "b"), ("b", "s", "c")]),
    ("x.csv", b"sep=;\r\nKopf;Art;Ziel\r\na;r;b\r\n", {"header": True}, ONE),
    ("x.csv", b'\xef\xbb\xbfsep=;\n"a";r;b\nb;s;c\n', {}, TWO),
    ("x.csv", b"a|r|b\nb|s|c\n", {}, TWO),
    ("x.csv", TSV, {}, TWO),
    ("x.csv", b"a, r, b\nb , s,\tc\n", {}, TWO),
    ("x.csv", b'a, "r", b\nb, "s", c\n', {}, TWO),
    ("x.csv", "\u00a0a,r\u2003,b\n".encode(), {}, ONE),
    ("x.txt", b"a,r,b\nb,s,c\n", {}, TWO),
    ("x.txt", b"a r b\r\nb s c\r\n", {}, TWO),
    ("x.csv", b'a,"r,b\n', {"format": "tsv", "delimiter": ","}, [("a", '"r', "b")]),
    ("x.tsv.gz", TSV, {}, TWO),
    ("x.tsv.gz", bz2.compress(TSV), {}, TWO),
    ("x.tsv", gzip.compress(TSV, mtime=0), {}, TWO),
    ("x.tsv.gz", "é".encode() * 600_000 + b"\tr\tb\n", {}, [("é" * 600_000, "r", "b")]),
    ("x.csv", b"head,relation,tail,year\na,r,b,1\n", {}, ONE),
    ("x.csv", b"id,subject,predicate,object,label\n1,a,r,b,x\n", {}, ONE),
    ("x.parquet", parquet(**NAMED, w=[1, 2]), {}, TWO),
    ("x.json", b'[["a","r","b"],\n["b","s","c"]]', {}, TWO),
    ("x.json", b'[["a","r","b"],["b","s","c"]]', {}, TWO),
    ("x.json", b'[\n {"h":"a","r":"r","t":"b"},\n {"h":"b","r":"s","t":"c"}\n]\n', {}, TWO),
    ("x.json", b'["a","r","b"]\n["b","s","c"]', {}, TWO),
    ("x.json", b'{"h":"a",\n"r":"r","t":"b"}', {}, ONE),
    ("x.tsv", b"a\tr\tb\t1\na\tr\tc\t-1\n", {"truth": "4"}, ONE),
    ("x.tsv", b"a\tr\tb\n", {"truth": "4"}, ONE),
    ("x.csv", b"head,relation,tail,label\na,r,b,true\na,r,c,False\n", {"truth": "label"}, ONE),
    ("x.csv", b'"a",r,b,+1\na,r,c,0\n', {"truth": "4"}, ONE),
    ("x.tsv", b"a\tr\tb\t1\nb\ts\tc\t-1\n", {"columns": ("1", "2", "3"), "truth": "none"}, TWO),
    ("x.tsv", b"a\tr\tb\n# x\n\nb\ts\tc\n\xff\tr\tb\n", {"skip_bad_lines": True}, TWO),
    ("x.tsv", b"# a comment\na\tr\tb\nb\ts\tc\n", {"skip_bad_lines": True}, TWO),
    ("x.csv", b'"a",r,b\nx\n,r,b\n\xff,r,b\nb,s,c\n', {"skip_bad_lines": True}, TWO),
    ("x.jsonl", b'["a","r","b"]\n[\n["a"]\n["b","s","c"]\n', {"skip_bad_lines": True}, TWO),
    (
        "x.parquet",
        parquet(h=["a", None], r=["r", "s"], t=["b", "c"]),
        {"skip_bad_lines": True},
        ONE,
    ),
    (
        "x.nt",
        b"<http://a> <http://r> <http://b> .\n<http://a b> <http://r> <http://c> .\n"
        b"<http://c> <http://r> <http://d> .\n",
        {"skip_bad_lines": True},
        [("http://a", "http://r", "http://b"), ("http://c", "http://r", "http://d")],
    ),
    (
        "x.nq",
        b"<a:> <r:> <b:> <g:> .\n<b:> <s:> <c:> .\n",
        {},
        [("a:", "r:", "b:"), ("b:", "s:", "c:")],
    ),
    (
        "x.trig",
        b"<g:> { <a:> <r:> <b:> }\n<b:> <s:> <c:> .",
        {},
        [("a:", "r:", "b:"), ("b:", "s:", "c:")],
    ),
    ("x.rdf", RDF, {}, [("http://e/a", "http://e/r", "http://e/b")]),
    ("x.owl", RDF, {}, [("http://e/a", "http://e/r", "http://e/b")]),
    ("x.owl", PREFIX + b"e:a e:r e:b .", {}, [("http://e/a", "http://e/r", "http://e/b")]),
    (
        "x.jsonld",
        b'{"@id":"http://e/a","http://e/r":{"@id":"http://e/b"}}',
        {},
        [("http://e/a", "http://e/r", "http://e/b")],
    ),
    (
        "x.nt",
        b"<http://a> <http://r> <http://b> . # c\n\n",
        {},
        [("http://a", "http://r", "http://b")],
    ),
    ("x.nt", b'_:x <http://r> _:y .\n_:x <http://r> "5" .\n', {}, [("_:x", "http://r", "_:y")]),
    (
        "x.ttl",
        PREFIX + b"e:a e:r [ e:s e:b ] , 5 .",
        {},
        [
            ("_:x.ttl#1", "http://e/s", "http://e/b"),
            ("http://e/a", "http://e/r", "_:x.ttl#1"),
        ],
    ),
    (
        "x.ttl.xz",
        lzma.compress(PREFIX + b"e:a e:r e:b ."),
        {},
        [("http://e/a", "http://e/r", "http://e/b")],
    ),
]

# Name, bytes, what the caller says, the beginning of what is behind the place, the remedy.
FAULTS: list[Any] = [
    ("x.tsv", b"", {}, ": no triples: the file is empty", "write one triple per line"),
    ("x.tsv", b"a\tr\n", {}, ", line 1: 2 columns where 3 are expected", "give the line a head"),
    ("x.tsv", b"a\tr\tb\t1\n", {}, ", line 1: 4 columns where 3", "1 is 'a', 2 is 'r', 3 is"),
    ("x.tsv", b"a\tr\tb\na\tr\tb\tc\n", {}, ", line 2: 4 columns where 3", "keep the first 3"),
    ("x.tsv", b"a\tr\tb\n\na\tr\tb\n", {}, ", line 2: a blank line", "remove the line"),
    ("x.tsv", b"a\tr\tb\na\0\tr\tb\n", {}, ", line 2: a NUL byte", "restore the file"),
    ("x.tsv", b"a\tr\tcaf\xe9\n", {}, ", line 1: not UTF-8: byte 0xe9", "save the file as UTF-8"),
    (
        "x.tsv",
        b"a\tr\tb\na\tr\tcaf\xe9\n",
        {},
        ", line 2: not UTF-8: byte 0xe9 in the tail",
        "save",
    ),
    ("x.tsv", TSV.decode().encode("utf-16"), {}, ", line 1: UTF-16 where UTF-8", "save it as"),
    (
        "x.tsv",
        b"head\trelation\ttail\n",
        {},
        ": no triples: the file holds nothing but a header",
        "write one triple per line",
    ),
    (
        "x.tsv",
        b"head\thead\ttail\na\tr\tb\n",
        {},
        ", line 1: this row may be a header or a triple",
        "--no-header",
    ),
    (
        "x.tsv",
        b"h\th\tt\na\tr\tb\n",
        {"columns": ("h", "r", "t")},
        ", line 1: two columns are named 'h'",
        "give its number",
    ),
    (
        "x.tsv",
        b"head\trel\ttail\n",
        {"columns": ("head", "rle", "tail")},
        ", line 1: no column named 'rle'",
        "use 'rel'",
    ),
    ("x.tsv", TSV, {"columns": ("1", "2", "4")}, ", line 1: no column 4 among 3", "count from 1"),
    (
        "x.tsv",
        gzip.compress(gzip.compress(TSV, mtime=0), mtime=0),
        {},
        ": compressed twice by gzip",
        "decompress",
    ),
    ("x.tsv", parquet(**NAMED), {}, ": a Parquet file, not text", "--format parquet"),
    ("x.tsv", b"a,r,b\na,r\n", {}, ", line 1: 1 column where 3", "--delimiter ','"),
    ("x.xls", TSV, {}, ": the file name does not show the format", "--format"),
    ("x.zip", TSV, {}, ": damaged, cut short or not a .zip file", "fetch or pack it again"),
    ("x.csv", b"a;r;b\na;r\n", {}, ", line 1: 1 column where 3", "--delimiter ';'"),
    (
        "x.csv",
        b'a,r,b\n"a,r,b\nc,s,d\n',
        {},
        ", line 2: invalid quotes",
        "close each quote",
    ),
    ("x.csv", b'a,r,b\n"a"x,r,b\n', {}, ", line 2: invalid quotes", "--format tsv"),
    (
        "x.csv",
        b'a,r,"b"\na,r\n',
        {},
        ", line 2: 2 columns where 3",
        "quote cells that contain the delimiter",
    ),
    ("x.csv", b'"a",r,b\n\na,r,b\n', {}, ", line 2: a blank line", "remove the line"),
    (
        "x.csv",
        b'a,r,b\n"a\nb",r,c\n',
        {},
        ", line 2: a line end in the head",
        "replace the line end",
    ),
    ("x.csv", b'"a",r,b\na,"x\ty",c\n', {}, ", line 2: a tab in the relation", "replace the tab"),
    ("x.csv", b'a,r,b\n"a",r\0,c\n', {}, ", line 2: a NUL byte", "restore the file"),
    ("x.csv", b'a,r,b\na,"",c\n', {}, ", line 2: an empty relation", "fill it in"),
    ("x.csv", b'"a",r,b\na,r,caf\xe9\n', {}, ", line 2: not UTF-8", "save the file as UTF-8"),
    ("x.csv", b'"head","relation","tail"\n', {}, ": no triples", "write one triple per line"),
    ("x.csv", b"a,r\tq,b\n", {}, ", line 1: a tab in the relation", "replace the tab"),
    (
        "x.csv",
        b"Source,Target,Type,Weight\na,b,r,1\n",
        {},
        ", line 1: 4 columns",
        "pass --columns Source,Type,Target (",
    ),
    (
        "x.tsv.gz",
        half(gzip.compress(TSV, mtime=0)),
        {},
        ": damaged, cut short or not a .gz",
        "fetch or pack",
    ),
    (
        "x.tsv.bz2",
        half(bz2.compress(TSV)),
        {},
        ": damaged, cut short or not a .bz2",
        "fetch or pack",
    ),
    (
        "x.tsv.xz",
        half(lzma.compress(TSV)),
        {},
        ": damaged, cut short or not a .xz",
        "fetch or pack",
    ),
    ("x.tsv.zst", half(zst(TSV)), {}, ": damaged, cut short or not a .zst", "fetch or pack"),
    ("x.tsv.gz", b"\x8f\x1e" + TSV, {}, ": damaged, cut short or not a .gz", "fetch or pack"),
    ("x.tsv.zst", b"", {}, ": damaged, cut short or not a .zst", "fetch or pack"),
    ("x.parquet", half(parquet(**NAMED)), {}, ": damaged, cut short or not a Parquet", "fetch"),
    ("x.parquet", TSV, {}, ": damaged, cut short or not a Parquet", "fetch"),
    ("x.parquet", parquet(head=["a"], tail=["b"]), {}, ": 2 columns where 3", "give each row"),
    (
        "x.parquet",
        parquet(x=["a"], y=["r"], z=["b"]),
        {},
        ": the columns of head, relation and tail cannot be inferred",
        "by --columns (kgtool data inspect, convert and split take it; then use the new folder): "
        "'x', 'y', 'z'",
    ),
    (
        "x.parquet",
        parquet(source=["a"], target=["b"], type=["r"], w=[1]),
        {},
        ": 4 columns where 3",
        "pass --columns source,type,target (",
    ),
    (
        "x.parquet",
        parquet(**{**NAMED, "tail": ["b", None]}),
        {},
        ", row 2: the tail is null",
        "fill it in",
    ),
    (
        "x.parquet",
        parquet(**{**NAMED, "tail": [0.5, 1.0]}),
        {},
        ": the column 'tail' holds double",
        "write it as text",
    ),
    (
        "x.parquet",
        parquet(**{**NAMED, "tail": ["b", ""]}),
        {},
        ", row 2: an empty tail",
        "fill it in",
    ),
    (
        "x.parquet",
        parquet(**{name: pd.Series([], dtype=str) for name in NAMED}),
        {},
        ": no triples",
        "write one triple per line",
    ),
    (
        "x.jsonl",
        b'["a", "r", "b"]\n["a", "r", null]\n',
        {},
        ", line 2: the tail is null",
        "quote it",
    ),
    ("x.jsonl", b'["a", "r", 1.5]\n', {}, ", line 1: the tail is a number", "quote it"),
    ("x.jsonl", b'["a", "r", true]\n', {}, ", line 1: the tail is true or false", "quote it"),
    ("x.jsonl", b'["a", ["r"], "b"]\n', {}, ", line 1: the relation is a list", "quote it"),
    (
        "x.jsonl",
        b'{"h":"a","r":"r","t":"b"}\n{"h":"a","r":"r"}\n',
        {},
        ", line 2: the key 't' of the tail is missing",
        "add it",
    ),
    (
        "x.jsonl",
        b'{"h":"a","r":"r","h":"b"}\n',
        {},
        ", line 1: the key 'h' occurs twice",
        "keep one",
    ),
    (
        "x.jsonl",
        b'{"a":"a","b":"r","c":"b"}\n{"a":"a","b":"r","c":"b"}\n',
        {},
        ", line 1: the columns of head, relation and tail cannot be inferred",
        "--columns",
    ),
    (
        "x.jsonl",
        b'["a","r","b"]\n{"h":"a","r":"r","t":"b"}\n',
        {},
        ", line 2: an object among arrays",
        "write arrays",
    ),
    ("x.jsonl", b'["a","r","b"]\n["a","r"]\n', {}, ", line 2: an array of 2 where 3", "as many"),
    ("x.jsonl", b'["a","r","b",1]\n', {}, ", line 1: 4 columns where 3", "--columns"),
    ("x.json", b'{"h": {"0": "a"}}', {}, ": neither JSON lines nor an array", 'orient="records"'),
    ("x.json", b'[["a","r","b"],["a","r"]]', {}, ", item 2: an array of 2 where 3", "as many"),
    ("x.owl", b"Prefix(:=<http://a#>)\n", {}, ": an ontology in OWL's own syntax", "RDF/XML"),
    ("x.rdf", b"<rdf:RDF><a></rdf:RDF>", {}, ": not RDF/XML", "correct the statement"),
    ("x.tsv", b"a\tr\tb\t1\n", {"truth": "5"}, ", line 1: no column 5 among 4", "count from 1"),
    (
        "x.tsv",
        b"a\tr\tb\t0.3\n",
        {"truth": "4"},
        ", line 1: the truth of the row is '0.3'",
        "write 1 for a fact",
    ),
    (
        "x.tsv",
        b"a\tr\tb\t1\na\tr\tc\t-1\n",
        {"columns": ("1", "2", "3")},
        ": column 4 holds '-1' and '1': rows may be negatives",
        "pass --truth 4 (",
    ),
    (
        "x.jsonl",
        b'{"h":"a","r":"r","t":"b","label":true}\n{"h":"a","r":"r","t":"c","label":false}\n',
        {},
        ": 'label' holds 'False' and 'True': rows may be negatives",
        "pass --truth label (",
    ),
    (
        "x.parquet",
        parquet(**NAMED, label=[1, 0]),
        {},
        ": 'label' holds '0' and '1': rows may be negatives",
        "pass --truth label (",
    ),
    ("x.jsonl", b'["a","r","b"\n', {}, ", line 1: invalid JSON", "write one object or array"),
    ("x.jsonl", b'"a"\n', {}, ", line 1: neither an object nor an array", "write ["),
    (
        "x.jsonl",
        b'["a","r","\\ud800"]\n',
        {},
        ", line 1: a lone surrogate in the tail",
        "surrogate",
    ),
    (
        "x.jsonl",
        b'["a","r","b\\u0000"]\n',
        {},
        ", line 1: a NUL byte in the tail",
        "replace the NUL byte",
    ),
    ("x.jsonl", b"[" * 100_000, {}, ", line 1: invalid JSON", "write one object"),
    ("x.jsonl", b"\n \n", {}, ": no triples", "write one triple per line"),
    (
        "x.nt",
        b"<http://a> <http://r> <http://b> .\n<http://a> oops .\n",
        {},
        ", line 2: not N-Triples",
        "correct the statement, or pass --skip-bad-lines (",
    ),
    ("x.ttl", PREFIX + b"e:a e:r e:b\ne:c", {}, ", line 3: not Turtle", "correct the statement"),
    ("x.ttl", b"e:a e:r e:b .", {}, ", line 1: not Turtle", "correct the statement"),
    (
        "x.nt",
        b'<http://a> <http://r> "b" .\n',
        {},
        ": no triples: all 1 objects are literals",
        "write one triple per line",
    ),
    (
        "x.nt",
        b"<http://a> <http://r> <http://b> .\n",
        {"columns": ("1", "2", "3")},
        ": an RDF file has no columns",
        "leave out --columns",
    ),
]


def test_a_parquet_file_whose_text_is_not_utf8(tmp_path):
    texts = pa.array([b"a\xff"]).view(pa.string())
    table = pa.table({"head": texts, "relation": ["r"], "tail": ["b"]})
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"x\.parquet: damaged, .*UTF"):
        read_triples([tmp_path / "x.parquet"])


def case_name(case: Any) -> str:
    return f"{case[0]}-{case[1][:24]!r}"


def written(folder: Path, name: str, data: bytes) -> Path:
    (folder / name).write_bytes(data)
    return folder / name


def test_the_table_is_long():
    assert len(SOUND) + len(FAULTS) > 100


@pytest.mark.parametrize("case", SOUND, ids=case_name)
def test_the_right_triples(tmp_path, case):
    name, data, said, expected = case
    place = written(tmp_path, name, data)
    if expected is None:  # what is wrong in a column that nobody reads
        if b"\xff" in data:
            with pytest.raises(DataError, match="line 1: not UTF-8"):
                read_triples([place], Reading(**said))
        else:
            with pytest.raises(DataError, match="line 1: an empty relation"):
                read_triples([place], Reading(**said))
        return
    assert labelled(read_triples([place], Reading(**said))) == expected


@pytest.mark.parametrize("case", FAULTS, ids=case_name)
def test_an_error_with_place_and_remedy(tmp_path, case):
    name, data, said, problem, remedy = case
    place = written(tmp_path, name, data)
    with pytest.raises(DataError) as caught:
        read_triples([place], Reading(**said))
    message, _, told = str(caught.value).partition("Remedy: ")
    assert message.startswith(f"{place}{problem}")
    assert remedy in told


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"format": "tvs"}, "unknown format 'tvs'. Remedy: did you mean tsv?"),
        ({"delimiter": ""}, "cannot separate columns"),
        ({"delimiter": "||"}, "cannot separate columns"),
        ({"delimiter": '"'}, "cannot separate columns"),
        ({"merge_labels": "all"}, "use one of blanks, unicode, case"),
        (
            {"columns": ("h", "r", "t", "w", "x")},
            "pass --columns h,r,t; kgtool data split takes --time w",
        ),
        ({"columns": ("h", "r")}, "give three column names"),
        ({"columns": ("h", "r", "h")}, "repeat a column"),
        ({"columns": ("0", "1", "2")}, "count from 1"),
        ({"columns": ("h", "r", "t"), "header": False}, "do not pass --no-header"),
    ],
)
def test_what_no_file_can_be_read_by(said, problem):
    with pytest.raises(ConfigError) as caught:
        Reading(**said)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda place: place.mkdir(), "not a file"),
        (lambda place: place.symlink_to(place), "a broken or circular link"),
        (lambda place: place.symlink_to(place.parent / "none"), "a broken or circular link"),
        (lambda place: None, "no such file or folder"),
    ],
)
def test_a_place_that_is_no_file(tmp_path, make, problem):
    place = tmp_path / "x.tsv"
    make(place)
    with pytest.raises(DataError) as caught:
        read_triples([place])
    assert str(caught.value).startswith(f"{place}: {problem}")
    assert "Remedy: " in str(caught.value)


def test_what_unfolds_too_far_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(compression, "MAX_BYTES", 10_000)
    packs: dict[str, Any] = {
        "gz": gzip.compress,
        "bz2": bz2.compress,
        "xz": lzma.compress,
        "zst": zst,
    }
    for ending, pack in packs.items():
        place = written(tmp_path, f"x.tsv.{ending}", pack(b"a\tr\tb\n" * 5000))
        with pytest.raises(DataError, match="more than 10,000 bytes when uncompressed"):
            read_triples([place])


def test_files_are_read_in_order_with_notes_and_an_extra_column(tmp_path):
    one = written(tmp_path, "1.csv", b"head,relation,tail,year\nb,r,a,1999\nb,r,a,NA\n")
    two = written(tmp_path, "2.tsv", b"year\ttail\trelation\thead\n5\tz\tq\tb\n")
    found = read_triples([one, str(two)], extra=["year"])
    assert labelled(found) == [("b", "r", "a"), ("b", "r", "a"), ("b", "q", "z")]
    assert found.vocabulary.entities == ("a", "b", "z")
    assert found.extra == {"year": ("1999", "NA", "5")}
    assert found.notes == (
        f"header in line 1 of {one}: head, relation, tail",
        f"header in line 1 of {two}: head, relation, tail",
    )
    number = read_triples([written(tmp_path, "3.tsv", b"a\tr\tb\t1\n")], extra=["4"])
    assert (labelled(number), number.extra) == (ONE, {"column 4": ("1",)})
    plain = read_triples([written(tmp_path, "4.tsv", TSV)])
    assert (plain.extra, plain.notes) == ({}, ())
    with pytest.raises(ConfigError, match="no file of triples"):
        read_triples([])


@pytest.mark.parametrize(
    ("name", "data", "texts"),
    [
        ("x.jsonl", b'["a","r","b",1.50]\n["b","s","c",7]', ("1.50", "7")),
        ("x.parquet", parquet(**NAMED, w=[0.5, 2.0]), ("0.5", "2")),
        ("x.jsonl", b'["a","r","b",null]\n["b","s","c",true]', ("", "true")),
        ("x.csv", b'a,r,b,\nb,s,c," "\n', ("", "")),
        ("x.tsv", b"a\tr\tb\t\nb\ts\tc\t1\n", ("", "1")),
    ],
)
def test_an_extra_column_may_hold_any_text(tmp_path, name, data, texts):
    found = read_triples([written(tmp_path, name, data)], extra=["4"])
    assert (labelled(found), tuple(found.extra.values())) == (TWO, (texts,))


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("x.tsv", b"a\tr\tb\t1\na\tr\tb\t\xff\n", ", line 2: not UTF-8: byte 0xff in the further"),
        ("x.jsonl", b'["a","r","b",[1]]', ", line 1: the column 4 is a list"),
        ("x.parquet", parquet(**NAMED, w=[[1], [2]]), ": the column 'w' holds list"),
        ("x.nt", b"_:a <r:> _:b .", ": an RDF file has no columns"),
    ],
)
def test_an_extra_column_that_holds_no_text(tmp_path, name, data, problem):
    place = written(tmp_path, name, data)
    with pytest.raises(DataError) as caught:
        read_triples([place], extra=["4"])
    assert str(caught.value).startswith(f"{place}{problem}")


def test_literals_are_counted_with_their_statements(tmp_path):
    lines = [
        f"<http://a> <http://r> {'<http://b>' if i % 2 else f'{chr(34)}{i}{chr(34)}'} ."
        for i in range(14)
    ]
    found = read_triples([written(tmp_path, "x.nt", "\n".join(lines).encode())])
    assert len(found.triples) == 7
    assert found.notes[0].endswith(
        "7 triples with a literal as object left out: statements 1, 3, 5, 7, 9, …"
    )


def test_unnamed_blank_nodes_have_the_same_names_each_time(tmp_path):
    place = written(tmp_path, "x.ttl", PREFIX + b"[] e:r [] , _:x . (e:a) e:r e:b .")
    one, two = read_triples([place]), read_triples([place])
    assert one.vocabulary == two.vocabulary
    assert labelled(one) == labelled(two)
    assert "_:x" in one.vocabulary.entities


def test_standard_input_is_tsv_unless_told(monkeypatch):
    for data, reading in (
        (TSV, Reading()),
        (b"a,r,b\nb,s,c\n", Reading(format="csv")),
        (b"a;r;b\nb;s;c", Reading(delimiter=";")),
    ):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
        assert labelled(read_triples(["-"], reading)) == TWO
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"a\n")))
    with pytest.raises(DataError, match="standard input, line 1: 1 column"):
        read_triples(["-"])


# --- any label comes back from any format

labels = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\t\r\n\0"), min_size=1, max_size=6
).filter(lambda label: not label.isspace())
triples = st.lists(st.tuples(labels, labels, labels), min_size=1, max_size=12)


def as_csv(rows: list[tuple[str, str, str]]) -> bytes:
    cells = [[cell.replace('"', '""') for cell in row] for row in rows]
    return "".join('"{}",{},"{}"\n'.format(h, f'"{r}"', t) for h, r, t in cells).encode()


WRITERS: dict[str, Any] = {
    "x.tsv": lambda rows: "".join("\t".join(row) + "\n" for row in rows).encode(),
    "x.csv": as_csv,
    "x.jsonl": lambda rows: "".join(json.dumps(row) + "\n" for row in rows).encode(),
    "y.jsonl": lambda rows: "".join(
        json.dumps(dict(zip("hrt", row, strict=True)), ensure_ascii=False) + "\n" for row in rows
    ).encode(),
    "x.parquet": lambda rows: parquet(
        **dict(zip("hrt", map(list, zip(*rows, strict=True)), strict=True))
    ),
}


@settings(max_examples=60, deadline=None)
@given(
    rows=triples, name=st.sampled_from(sorted(WRITERS)), packed=st.sampled_from(["", ".gz", ".zst"])
)
def test_any_label_comes_back(rows, name, packed):
    said: dict[str, Any] = {}
    if name in ("x.tsv", "x.csv"):
        said["header"] = False
        if name == "x.tsv" and rows[0][0].startswith("\ufeff"):
            return
    data = WRITERS[name](rows)
    packs: dict[str, Any] = {"": bytes, ".gz": gzip.compress, ".zst": zst}
    data = packs[packed](data)
    with tempfile.TemporaryDirectory() as folder:
        found = read_triples([written(Path(folder), name + packed, data)], Reading(**said))
    if name == "x.csv":  # blanks around cells are removed
        rows = [tuple(cell.strip() for cell in row) for row in rows]
    assert labelled(found) == rows


def iri(label: str) -> str:
    return "http://e/" + "".join(f"{byte:02x}" for byte in label.encode())


@settings(max_examples=40, deadline=None)
@given(rows=triples, name=st.sampled_from(["x.nt", "x.ttl"]))
def test_any_iri_comes_back(rows, name):
    named = [tuple(map(iri, row)) for row in rows]
    data = "".join("{} .\n".format(" ".join(f"<{cell}>" for cell in row)) for row in named)
    with tempfile.TemporaryDirectory() as folder:
        found = read_triples([written(Path(folder), name, data.encode())])
    assert labelled(found) == named


@settings(max_examples=150, deadline=None)
@given(
    data=st.binary(max_size=60),
    name=st.sampled_from(
        ["x.tsv", "x.csv", "x.json", "x.parquet", "x.nq", "x.trig", "x.owl", "x.jsonld", "x.gz.zst"]
    ),
    skip=st.booleans(),
)
def test_no_bytes_end_in_a_traceback(data, name, skip):
    message = None
    with tempfile.TemporaryDirectory() as folder:
        place = written(Path(folder), name, data)
        try:
            read_triples([place], Reading(skip_bad_lines=skip))
        except KGToolError as error:
            message = str(error)
    assert message is None or (message.startswith(str(place)) and "Remedy: " in message)


def test_a_first_row_that_may_be_a_header_is_told(tmp_path):
    rows = "".join(f"a{i},is,a{i + 1}\n" for i in range(12))
    file = tmp_path / "x.csv"
    file.write_text("gene,effect,disease\n" + rows)
    (note,) = read_triples([file]).notes
    assert "x.csv, line 1 was read as a triple" in note
    assert "'gene', 'effect', 'disease' occur nowhere else" in note
    assert "--header" in note
    assert len(read_triples([file], Reading(header=True)).triples) == 12
    assert read_triples([file], Reading(header=False)).notes == ()
    assert len(read_triples([file]).triples) == 13
    file.write_text("a13,is,a14\n" + rows)  # strange ends, but a relation of others
    assert read_triples([file]).notes == ()
    file.write_text("gene,effect,disease\na,is,b\n")  # too few to tell
    assert read_triples([file]).notes == ()
