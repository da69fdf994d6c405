"""Does the FID follow image quality? Real images, spoiled step by step, seen by each extractor."""
