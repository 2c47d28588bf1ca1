mod driver;
mod shaders;
