"""Writes small DICOM files, with a patient in the header whom nothing may mention."""

import numpy as np
import pydicom
from pydicom import uid

SECRETS = ("Nightingale", "PID-4711", "19200512")


def dataset(values, bits=None, syntax=uid.ExplicitVRLittleEndian, **elements):
    """A DICOM file of the stored values [H, W], [H, W, 3] or, with NumberOfFrames, [F, H, W]."""
    values = np.asarray(values)
    allocated = 8 * values.dtype.itemsize
    bits = bits or allocated
    header = pydicom.Dataset()
    header.file_meta = pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = syntax
    header.file_meta.MediaStorageSOPClassUID = uid.SecondaryCaptureImageStorage
    header.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    header.SOPClassUID, header.SOPInstanceUID = uid.SecondaryCaptureImageStorage, "1.2.3"
    header.PatientName, header.PatientID, header.PatientBirthDate = SECRETS
    colour = values.ndim == 3 and "NumberOfFrames" not in elements
    header.SamplesPerPixel = 3 if colour else 1
    header.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        header.PlanarConfiguration = 0
    header.Rows, header.Columns = values.shape[:2] if colour else values.shape[-2:]
    header.BitsAllocated, header.BitsStored, header.HighBit = allocated, bits, bits - 1
    header.PixelRepresentation = int(values.dtype.kind == "i")
    data = values.astype(values.dtype.newbyteorder("<")).tobytes()
    header.PixelData = data + b"\0" * (len(data) % 2)
    header["PixelData"].VR = "OB" if allocated == 8 else "OW"
    for keyword, value in elements.items():
        setattr(header, keyword, value)
    return header


def write(path, *arguments, **elements):
    dataset(*arguments, **elements).save_as(path, enforce_file_format=True)
    return path
