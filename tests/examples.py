"""What several tests make: tables, zip files, the folder aclImdb or its archive, and a loss."""

from __future__ import annotations

import csv
import io
import tarfile
import zipfile

import torch

ROWS = [
    ("A fine, warm film.", "positive"),
    ('He said "never again"; I agree.', "negative"),
    ("Two\nlines \u2013 and na\u00efve.", "positive"),
    ("Dull\tand slow.", "negative"),
]

ACL_REVIEWS = {
    "train/pos/0_9.txt": "Great.",
    "train/pos/10_8.txt": "Caf\u00e9, good.",
    "train/neg/2_1.txt": "Awful.",
    "train/neg/1_3.txt": "Weak.",
    "train/unsup/0_0.txt": "Unrated.",
    "test/pos/0_10.txt": "Superb.",
    "test/neg/0_2.txt": "Bad.",
    "train/urls_pos.txt": "no review",
}


def csv_text(rows=ROWS, header=("review", "sentiment"), **options):
    file = io.StringIO(newline="")
    csv.writer(file, **{"lineterminator": "\n", **options}).writerows([header, *rows])
    return file.getvalue()


def relabelled(positive, negative):
    return csv_text([(text, positive if label == "positive" else negative) for text, label in ROWS])


def many(n=400):
    """As many distinct rows: one bad row among them is less than the accepted 1%."""
    return [(f"Review number {i}.", ("positive", "negative")[i % 2]) for i in range(n)]


def zipped(members, **options):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def tar_of(members, mode="w"):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def acl_archive(path, prefix="aclImdb/", mode="w:gz"):
    members = {prefix + name: text.encode() for name, text in ACL_REVIEWS.items()}
    path.write_bytes(tar_of(members, mode))
    return path


def add_acl_reviews(folder):
    for name, text in ACL_REVIEWS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def loss_of(outputs, state):
    """A number that depends on every output and every final state, each in its own way."""
    generator = torch.Generator().manual_seed(1)
    parts = [outputs, *state]
    weights = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parts]
    return sum((weight * part).sum() for weight, part in zip(weights, parts, strict=True))
