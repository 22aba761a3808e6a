"""Read the output of other benchmark tools. Pure: the bytes of a file -> what they say."""
