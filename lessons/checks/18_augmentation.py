"""Lesson 18: the mean image in pieces, crops, mirrors and colours that are random and repeatable."""

import numpy as np

from lessons.checking import Mutant, Wrong, is_a, same
from minidl.backend import to_device

# The mean image


def _pieces():
    """Bright images, in pieces of 5 and of 2."""
    rng = np.random.default_rng(2)
    images = rng.integers(100, 256, (7, 3, 4, 3)).astype(np.uint8)
    return images, [images[:5], images[5:]]


def check_mean(lesson, device):
    """mean_image: of pieces of 5 and of 2 images"""
    images, pieces = _pieces()
    want = images.mean(axis=0).astype(np.float32)
    means = [piece.astype(float).mean(axis=0) for piece in pieces]
    wrapped = images.sum(axis=0, dtype=np.uint8)
    mistakes = {
        "that is the mean of the means of the pieces; the last piece has fewer images, and each image must count the same.": (
            means[0] + means[1]
        )
        / 2,
        "the sum is kept in bytes and wraps round at 256: sum with dtype=np.int64.": wrapped / np.float32(7),
        "the sum of each piece is kept in bytes and wraps round at 256: sum with dtype=np.int64.": sum(
            piece.sum(axis=0, dtype=np.uint8).astype(float) for piece in pieces
        )
        / 7,
        "the sum is divided by the number of pieces, not of images.": images.sum(axis=0, dtype=float) / 2,
        "that is the last piece alone.": means[1],
        "that is the first piece alone.": means[0],
        "that is the sum; divide by the number of images.": images.sum(axis=0, dtype=float),
        "the result is cut to whole numbers.": np.floor(want),
    }
    got = lesson.mean_image([to_device(piece, device) for piece in pieces])
    same("mean_image of pieces of 5 and 2 images", got, want, 1e-5, mistakes=mistakes, dtype=np.float32)


def check_mean_once(lesson, device):
    """mean_image: pieces that come only once"""
    images, pieces = _pieces()
    try:
        got = lesson.mean_image(to_device(piece, device) for piece in pieces)
    except (TypeError, ZeroDivisionError, IndexError, KeyError) as error:
        raise Wrong(
            f"mean_image of a generator: {type(error).__name__}: {error}.\nThe pieces have no length and no second time: "
            "one loop, `for piece in pieces`, must do it all."
        ) from None
    same("mean_image of a generator", got, images.mean(axis=0), 1e-5)


# Crops

HEIGHT, WIDTH, SIZE = 9, 12, 6


def _places():
    """(60, 9, 12, 3): a pixel holds the number of its image, its row and its column."""
    return np.stack(np.meshgrid(np.arange(60), np.arange(HEIGHT), np.arange(WIDTH), indexing="ij"), axis=-1).astype(np.uint8)


def _cropped(lesson, device, seed=0):
    images = to_device(_places(), device)
    crops = _images("random_crop", lesson.random_crop(images, SIZE, np.random.default_rng(seed)), (60, SIZE, SIZE, 3))
    if not np.array_equal(to_device(images, "cpu"), _places()):
        raise Wrong("random_crop has changed the images that it was given.")
    return crops


def _images(what, got, shape):
    """`got` as a NumPy array, of this shape."""
    if got is None or not hasattr(got, "shape"):
        is_a(what, got, np.ndarray)
    array = np.asarray(got.get() if hasattr(got, "get") else got)
    if array.shape != shape:
        raise Wrong(f"{what} of {shape[0]} images: shape {array.shape} instead of {shape}.")
    return array


def check_crop_pieces(lesson, device):
    """random_crop: each is a piece of its own image"""
    crops = _cropped(lesson, device)
    if crops.dtype != np.uint8:
        raise Wrong(f"random_crop of uint8 images gives {crops.dtype}. A piece of an image has the bytes that the image has.")
    number, top, left = crops[:, 0, 0].T.astype(int)
    if not np.array_equal(number, np.arange(60)):
        raise Wrong("random_crop: the pieces do not stand in the order of the images, so they no longer fit their labels.")
    want = np.stack([image[t : t + SIZE, x : x + SIZE] for image, t, x in zip(_places(), top, left, strict=True)])
    same("random_crop (each pixel holds image, row, column)", crops, want)


def check_crop_places(lesson, device):
    """random_crop: every image has a place of its own, and all places occur"""
    found = np.concatenate([_cropped(lesson, device, seed)[:, 0, 0, 1:] for seed in range(8)]).astype(int)
    tops, lefts = found.T
    if len({tuple(place) for place in found[:60]}) == 1:
        raise Wrong("random_crop: all images of the batch are cut at the same place. Draw N places: rng.integers(..., size=N).")
    if (tops == lefts).all():
        raise Wrong("random_crop: the number of the row is always that of the column. Draw them separately.")
    for name, numbers, length in (("row", tops, HEIGHT), ("column", lefts, WIDTH)):
        last = length - SIZE
        if set(numbers) == {0}:
            raise Wrong(f"random_crop: every piece begins in {name} 0. Draw a {name} for each image.")
        if numbers.max() == last - 1:
            raise Wrong(
                f"random_crop: of {length} {name}s, pieces of {SIZE} can begin in {name} 0 to {last}, but {last} never occurs.\n"
                "Likely cause: rng.integers(n) ends before n, and there is one place more than the difference."
            )
        if set(numbers) != set(range(last + 1)):
            raise Wrong(
                f"random_crop: of {length} {name}s, pieces of {SIZE} can begin in {name} 0 to {last}; "
                f"yours begin in {name} {numbers.min()} to {numbers.max()}.\n"
                "Likely cause: are height and width mixed up?"
            )


def check_crop_seed(lesson, device):
    """random_crop: the same seed, the same pieces"""
    _seeded("random_crop", lambda seed: _cropped(lesson, device, seed))


def _seeded(what, call):
    if not np.array_equal(call(3), call(3)):
        raise Wrong(f"{what}: the same seed gave something else the second time. Draw from `rng`, not from np.random.")
    if np.array_equal(call(3), call(4)):
        raise Wrong(f"{what}: another seed gave the same. Draw from `rng`, the one that is handed over; make no new one.")


# Mirrors


def _mirrored(lesson, device, seed=0):
    images = _to_mirror()
    there = to_device(images, device)
    got = _images("random_mirror", lesson.random_mirror(there, np.random.default_rng(seed)), images.shape)
    if not np.array_equal(to_device(there, "cpu"), _to_mirror()):
        raise Wrong("random_mirror has changed the images that it was given. Write into a new array, or use xp.where.")
    return got


def _to_mirror():
    return np.random.default_rng(7).integers(0, 256, (100, 4, 4, 3)).astype(np.uint8)


def check_mirror_kinds(lesson, device):
    """random_mirror: each image is as it was, or turned left to right"""
    images, got = _to_mirror(), _mirrored(lesson, device)
    kinds = {
        "upside down; rows are axis 1, columns axis 2.": images[:, ::-1],
        "with red and blue exchanged: that is axis 3, and columns are axis 2.": images[..., ::-1],
        "turned by half a turn: only the columns, axis 2, change sides.": images[:, ::-1, ::-1],
        "turned along its diagonal: rows and columns are exchanged.": images.transpose(0, 2, 1, 3),
        "another image: the batch, axis 0, is turned round, and images no longer fit their labels.": images[::-1],
    }
    right = (got == images).all(axis=(1, 2, 3)) | (got == images[:, :, ::-1]).all(axis=(1, 2, 3))
    if right.all():
        if got.dtype != np.uint8:
            raise Wrong(f"random_mirror of uint8 images gives {got.dtype}. A mirrored image has the same bytes.")
        return
    for kind, wrong in kinds.items():
        if (right | (got == wrong).all(axis=(1, 2, 3))).all():
            raise Wrong(f"random_mirror: image {int((~right).argmax())} is {kind}")
    raise Wrong(f"random_mirror: image {int((~right).argmax())} is neither as it was nor turned left to right.")


def check_mirror_decisions(lesson, device):
    """random_mirror: half of them, and each decided on its own"""
    images = _to_mirror()
    turned = np.array([(_mirrored(lesson, device, seed) != images).any(axis=(1, 2, 3)) for seed in range(4)])
    if not turned.any() or turned.all():
        how = "all" if turned.all() else "none"
        raise Wrong(f"random_mirror: of 400 images {how} are turned round, and about 200 should be.")
    if all(len(set(batch)) == 1 for batch in turned):
        raise Wrong("random_mirror: there is one decision for the whole batch. Draw one for each image: rng.random(N).")
    if not 140 < turned.sum() < 260:
        raise Wrong(f"random_mirror: of 400 images {turned.sum()} are turned round, and about 200 should be: probability 1/2.")


def check_mirror_seed(lesson, device):
    """random_mirror: the same seed, the same decisions"""
    _seeded("random_mirror", lambda seed: _mirrored(lesson, device, seed))


# Colours


def _coloured():
    """(40, 8, 8, 3) of uint8: colours that lie along three directions of their own, and differ from image to image."""
    rng = np.random.default_rng(4)
    mixing = np.array([[30.0, 10.0, 2.0], [25.0, -6.0, 6.0], [20.0, -14.0, -5.0]])
    colours = rng.standard_normal((40, 8, 8, 3)) + rng.standard_normal((40, 1, 1, 3))
    return np.clip(colours @ mixing.T + [140, 110, 90], 0, 255).astype(np.uint8)


def _matrix(values, vectors):
    return (vectors * values) @ vectors.T


def check_axes(lesson):
    """colour_axes: of 2,560 pixels"""
    images = _coloured()
    pixels = images.reshape(-1, 3).astype(float)
    covariance = np.cov(pixels.T, ddof=0)
    got = lesson.colour_axes(images)
    is_a("colour_axes(images)", got, tuple)
    if len(got) != 2:
        raise Wrong(f"colour_axes(images): {len(got)} things instead of two, (eigenvalues, eigenvectors).")
    values, vectors = (np.asarray(part) for part in got)
    if values.shape != (3,) or vectors.shape != (3, 3):
        raise Wrong(
            f"colour_axes: shapes {values.shape} and {vectors.shape} instead of (3,) and (3, 3): a pixel has three numbers."
        )
    own_values = np.linalg.eigvalsh(covariance)
    own_mean = images - images.mean(axis=(1, 2), keepdims=True)
    of_images = np.cov(images.mean(axis=(1, 2)).T, ddof=0)
    per_image = np.cov(own_mean.reshape(-1, 3).T, ddof=0)
    with np.errstate(over="ignore"):
        bytes_squared = (images.reshape(-1, 3).T @ images.reshape(-1, 3)) / len(pixels)
    one_mean = pixels - pixels.mean()
    mistakes = {
        "one mean of all numbers is subtracted; red, green and blue each have their own, over axis 0.": np.linalg.eigvalsh(
            one_mean.T @ one_mean / len(pixels)
        ),
        "the mean colour is not subtracted first.": np.linalg.eigvalsh(pixels.T @ pixels / len(pixels)),
        "the sum is not divided by the number of pixels.": own_values * len(pixels),
        "it is divided by the number of images, not of pixels.": own_values * len(pixels) / len(images),
        "those are standard deviations, the roots of the eigenvalues; the caller takes the root.": np.sqrt(own_values),
        "that is the correlation, each colour divided by its own deviation.": np.linalg.eigvalsh(np.corrcoef(pixels.T)),
        "those are the colours of whole images; take all pixels.": np.linalg.eigvalsh(of_images),
        "from each image its own mean is subtracted; take the mean of all pixels.": np.linalg.eigvalsh(per_image),
        "bytes are multiplied, and the products wrap round at 256: convert to float64 first.": np.linalg.eigvalsh(bytes_squared),
    }
    same("the eigenvalues, the smallest first", np.sort(values), own_values, 1e-3, mistakes=mistakes)
    if np.allclose(_matrix(values, vectors.T), covariance, 2e-3) and not np.allclose(_matrix(values, vectors), covariance, 2e-3):
        raise Wrong("colour_axes: the eigenvectors are rows; they should stand as columns, as eigh gives them.")
    same("P diag(l) P.T, which should be the covariance", _matrix(values, vectors), covariance, 2e-3)


def _axes():
    """Three directions at right angles, no symmetric matrix, and three lengths."""
    vectors, _ = np.linalg.qr(np.random.default_rng(6).standard_normal((3, 3)))
    return vectors, np.array([5.0, 40.0, 300.0])


def check_add_colour(lesson, device):
    """add_colour: one colour an image, along the axes"""
    vectors, lengths = _axes()
    images = np.random.default_rng(8).integers(0, 256, (4, 3, 5, 3)).astype(np.uint8)
    there = to_device(images.copy(), device)
    got = lesson.add_colour(there, vectors, lengths, np.random.default_rng(1))
    a = np.random.default_rng(1).normal(0, 0.1, (4, 3))

    def plus(colours):
        return images + np.asarray(colours)[:, None, None, :]

    want = plus((a * lengths) @ vectors.T)
    mistakes = {
        "the eigenvectors are columns; rows times the matrix need vectors.T.": plus((a * lengths) @ vectors),
        "the lengths are missing: a times l.": plus(a @ vectors.T),
        "the eigenvectors are missing: red, green and blue are changed on their own.": plus(a * lengths),
        "all images get the colour of the first one.": plus(np.repeat(((a * lengths) @ vectors.T)[:1], 4, axis=0)),
        "the lengths are multiplied after the matrix; a and l belong together, before it.": plus((a @ vectors.T) * lengths),
        "the colour is subtracted.": plus(-(a * lengths) @ vectors.T),
        "what lies outside 0 to 255 is cut off; the network takes all numbers.": np.clip(want, 0, 255),
        "it is added in bytes, which wrap round at 256: convert the images to float32 first.": images
        + ((a * lengths) @ vectors.T).astype(np.int64).astype(np.uint8)[:, None, None, :],
        "nothing is added.": images,
    }
    same("add_colour(images, vectors, lengths, rng)", got, want, 1e-4, 1e-2, mistakes=mistakes, dtype=np.float32)
    if not np.array_equal(to_device(there, "cpu"), images):
        raise Wrong("add_colour has changed the images that it was given.")


HINTS = {
    "mean_image": (
        "Two things grow as the pieces come by: the sum of all images, and their number.",
        "(sum over all pieces of their sums over axis 0, as int64) / (sum of their lengths), then as float32.",
        "    total, count = 0, 0\n"
        "    for piece in pieces:\n"
        "        total = total + piece.sum(axis=0, dtype=...)\n"
        "        count += ...\n"
        "    return (total / count).astype(np.float32)",
    ),
    "random_crop": (
        "For each image a row and a column where its piece begins. From how many rows can a piece of `size` begin?",
        "tops: N whole numbers from 0 to height - size, lefts: N from 0 to width - size; image[top : top + size, left : left + size].",
        "    tops = rng.integers(height - size + 1, size=count)\n"
        "    lefts = ...\n"
        "    pieces = []\n"
        "    for image, top, left in zip(images, tops, lefts):\n"
        "        pieces.append(image[..., ...])\n"
        "    return xp.stack(pieces)",
    ),
    "random_mirror": (
        "Left and right are the ends of a row of pixels: that is the axis of the columns. The decisions are N numbers, true or false.",
        "flips = rng.random(N) < 1/2; where true images[:, :, ::-1], else images. The decisions need the shape (N, 1, 1, 1).",
        "    flips = xp.asarray(rng.random(len(images)) < 0.5)\n"
        "    choice = flips[:, None, None, None]\n"
        "    return xp.where(choice, ..., images)",
    ),
    "colour_axes": (
        "Put all pixels of all images below each other, (number, 3), as float64; the mean colour is the mean over them.",
        "S = X.T @ X / number, where X is pixels minus mean. np.linalg.eigh(S) gives the values and the vectors.",
        "    pixels = images.reshape(-1, 3).astype(np.float64)\n"
        "    pixels = pixels - ...\n"
        "    covariance = pixels.T @ ... / len(pixels)\n"
        "    return np.linalg.eigh(...)",
    ),
    "add_colour": (
        "First the colours, one row an image: (N, 3). Then each is added to all pixels of its image: shape (N, 1, 1, 3).",
        "colours = (a * lengths) @ vectors.T; images as float32 + colours[:, None, None, :].",
        "    colours = (a * ...) @ ...\n"
        "    colours = xp.asarray(colours.astype(np.float32))\n"
        "    return images.astype(np.float32) + colours[...]",
    ),
}

_SUM = "        total = total + piece.sum(axis=0, dtype=np.int64)\n        count += len(piece)\n"
_PLACES = """\
    tops = rng.integers(height - size + 1, size=count)
    lefts = rng.integers(width - size + 1, size=count)
"""
_TURN = "return xp.where(choice, images[:, :, ::-1], images)"

MUTANTS = [
    Mutant(
        "bytes wrap",
        _SUM,
        "        for image in piece:\n            total = total + image\n        count += len(piece)\n",
        "wraps round at 256",
    ),
    Mutant(
        "mean of means",
        _SUM,
        "        total = total + piece.mean(axis=0)\n        count += 1\n",
        "mean of the means of the pieces",
    ),
    Mutant("pieces counted", "        count += len(piece)\n", "        count += 1\n", "divided by the number of pieces"),
    Mutant(
        "cut to bytes",
        "return (total / count).astype(np.float32)",
        "return (total / count).astype(np.uint8)",
        "uint8 instead of float32",
    ),
    Mutant("the last place never", _PLACES, _PLACES.replace(" + 1", ""), "ends before n, and there is one place more"),
    Mutant(
        "one place for all",
        _PLACES,
        _PLACES.replace("size=count", "size=1") + "    tops, lefts = tops.repeat(count), lefts.repeat(count)\n",
        "cut at the same place",
    ),
    Mutant("the same numbers twice", _PLACES, _PLACES.splitlines()[0] + "\n    lefts = tops\n", "always that of the column"),
    Mutant("height for width", _PLACES, _PLACES.replace("width", "height"), "height and width mixed up"),
    Mutant("global random crop", _PLACES, _PLACES.replace("rng.", "np.random.default_rng()."), "not from np.random"),
    Mutant(
        "in place",
        _TURN,
        "images[...] = xp.where(choice, images[:, :, ::-1], images)\n    return images",
        "has changed the images",
    ),
    Mutant("upside down", _TURN, _TURN.replace("[:, :, ::-1]", "[:, ::-1]"), "upside down"),
    Mutant("red and blue", _TURN, _TURN.replace("[:, :, ::-1]", "[..., ::-1]"), "red and blue exchanged"),
    Mutant(
        "one decision",
        "rng.random(len(images)) < 0.5",
        "(rng.random(1) < 0.5).repeat(len(images))",
        "one decision for the whole batch",
    ),
    Mutant("always", "rng.random(len(images)) < 0.5", "rng.random(len(images)) < 5", "of 400 images all are turned"),
    Mutant(
        "a new generator",
        "rng.random(len(images)) < 0.5",
        "np.random.default_rng(0).random(len(images)) < 0.5",
        "make no new one",
    ),
    Mutant("mean not subtracted", "    pixels = pixels - pixels.mean(axis=0)\n", "", "mean colour is not subtracted"),
    Mutant("not divided", "pixels.T @ pixels / len(pixels)", "pixels.T @ pixels", "not divided by the number of pixels"),
    Mutant(
        "bytes multiplied",
        "    pixels = images.reshape(-1, 3).astype(np.float64)\n    pixels = pixels - pixels.mean(axis=0)\n",
        "    pixels = images.reshape(-1, 3)\n",
        "products wrap round at 256",
    ),
    Mutant(
        "vectors as rows",
        "return np.linalg.eigh(covariance)",
        "found = np.linalg.eigh(covariance)\n    return found[0], found[1].T",
        "they should stand as columns",
    ),
    Mutant("columns for rows", "(a * lengths) @ vectors.T", "(a * lengths) @ vectors", "need vectors.T"),
    Mutant("no eigenvectors", "(a * lengths) @ vectors.T", "a * lengths", "changed on their own"),
    Mutant("no lengths", "(a * lengths) @ vectors.T", "a @ vectors.T", "the lengths are missing"),
    Mutant(
        "one colour for all",
        "images.astype(np.float32) + colours[:, None, None, :]",
        "images.astype(np.float32) + colours[0]",
        "the colour of the first one",
    ),
    Mutant(
        "added in bytes",
        "    colours = xp.asarray(colours.astype(np.float32))\n    return images.astype(np.float32) + colours[:, None, None, :]\n",
        "    colours = xp.asarray(colours.astype(np.int64).astype(np.uint8))\n"
        "    return (images + colours[:, None, None, :]).astype(np.float32)\n",
        "wrap round at 256",
    ),
]
