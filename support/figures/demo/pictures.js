// A picture file of any size becomes an image of 32 x 32 pixels, as data/pictures.py makes it.

"use strict";

const MAX_PIXELS = 50e6; // of a picture
const STRIP = 2 ** 20; // pixels that are decoded at a time

// The pixels of a row of `length` pixels that each of 32 new pixels covers: { first, shares }, the
// shares from pixel `first` on, which sum to 1.
function coverage(length) {
  return Array.from({ length: SIDE }, (_, i) => {
    const left = (i * length) / SIDE, right = ((i + 1) * length) / SIDE;
    const first = Math.floor(left), shares = [];
    for (let p = first; p < right; p++) {
      const covered = Math.min(right, p + 1) - Math.max(left, p);
      shares.push((covered * SIDE) / length);
    }
    return { first, shares };
  });
}

// Call use(rgba, y, height) with the pixels of a square of the picture, some rows at a time: a
// large picture is never in memory twice. White shows through where the picture is transparent.
function forEachStrip(picture, left, top, length, use) {
  const most = Math.min(length, Math.ceil(STRIP / length));
  const pen = new OffscreenCanvas(length, most).getContext("2d", { willReadFrequently: true });
  pen.imageSmoothingEnabled = false;
  for (let y = 0; y < length; y += most) {
    const height = Math.min(most, length - y);
    pen.fillStyle = "white";
    pen.fillRect(0, 0, length, height);
    pen.drawImage(picture, left, top + y, length, height, 0, 0, length, height);
    use(pen.getImageData(0, 0, length, height).data, y, height);
  }
}

// The image (3072,) of a picture: the square in its middle, averaged down, first along its rows,
// then along its columns.
function shrink(picture) {
  const length = Math.min(picture.width, picture.height), covered = coverage(length);
  const left = Math.floor((picture.width - length) / 2);
  const top = Math.floor((picture.height - length) / 2);

  const narrow = new Float64Array(length * SIDE * 3); // (rows, 32, 3)
  forEachStrip(picture, left, top, length, (rgba, y, height) => {
    for (let row = 0; row < height; row++)
      for (let column = 0; column < SIDE; column++)
        for (let channel = 0; channel < 3; channel++) {
          const { first, shares } = covered[column];
          let sum = 0;
          for (let p = 0; p < shares.length; p++)
            sum += shares[p] * rgba[4 * (row * length + first + p) + channel];
          narrow[((y + row) * SIDE + column) * 3 + channel] = sum;
        }
  });

  const image = new Uint8Array(PIXELS);
  covered.forEach(({ first, shares }, row) => {
    for (let column = 0; column < SIDE; column++)
      for (let channel = 0; channel < 3; channel++) {
        let sum = 0;
        for (let p = 0; p < shares.length; p++)
          sum += shares[p] * narrow[((first + p) * SIDE + column) * 3 + channel];
        image[AREA * channel + SIDE * row + column] = roundHalfToEven(sum);
      }
  });
  return image;
}

// To the nearest integer, and to the even one of two, as NumPy does.
function roundHalfToEven(value) {
  const nearest = Math.round(value);
  return value % 1 === 0.5 && nearest % 2 ? nearest - 1 : nearest;
}

// The image (3072,) of a file. Throws an Error whose message a visitor can read.
async function imageOf(file) {
  const name = file.name || "the picture";
  let picture;
  try {
    // The numbers in the file, as Python reads them.
    const asStored = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
    picture = await createImageBitmap(file, asStored);
  } catch {
    throw new Error(`${name}: this browser can't read it as a picture; choose another file`);
  }
  if (picture.width * picture.height > MAX_PIXELS)
    throw new Error(`${name}: has over 50 million pixels; make it smaller`);
  return shrink(picture);
}
